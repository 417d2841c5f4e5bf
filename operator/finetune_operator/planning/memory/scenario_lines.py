"""Scenarios in files: one JSON object a line, as data/scenario.schema.json describes. Called by `finetune vram`.

The reader is strict: a field or value that the schema does not know is an error for that line, never ignored.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, get_args

from finetune_operator.errors import FinetuneError
from finetune_operator.planning.memory.scenario import (
    AdapterLoad,
    Attention,
    Batching,
    LossKernel,
    MemoryScenario,
    Method,
    Objective,
    Optimizer,
    Quantization,
    Reference,
    Shape,
    Sharding,
)


class ScenarioInvalid(FinetuneError):
    """A line does not follow the schema; the message names the field."""


WORDS: dict[str, tuple[str, ...]] = {
    "method": get_args(Method),
    "objective": get_args(Objective),
    "reference": get_args(Reference),
    "quantization": get_args(Quantization),
    "loraVariant": ("standard", "rslora", "dora", "adalora"),
    "batching": get_args(Batching),
    "optimizer": get_args(Optimizer),
    "sharding": get_args(Sharding),
    "lossKernel": get_args(LossKernel),
    "attention": get_args(Attention),
    "weightsDtype": ("bfloat16", "float32"),
    "reading": ("allocated", "reserved", "card"),
}
FLAGS = (
    "trainsEmbeddings", "activationCheckpointing", "activationOffload", "parameterOffload", "residualFloat32",
    "optimizerInBackward", "torchCompile",
)  # fmt: skip
OPTIONAL_FLAGS = ("quantizedExperts", "loraExperts", "loraDropout", "optimizerOffload")
COUNTS = ("sequenceLength", "microBatchSize", "numGpus")
TARGETS = ("q", "k", "v", "o", "gate", "up", "down", "lm_head", "qkv")
TEXTS = ("source", "gpu")
MODEL_COUNTS = (
    "parameters", "hiddenSize", "layers", "attentionHeads", "keyValueHeads", "headDim", "intermediateSize", "vocabSize",
)  # fmt: skip
MODEL_OPTIONAL = ("experts", "expertsPerToken", "sharedExperts")
REQUIRED = (
    "id", "model", "method", "quantization", "loraRank", "loraTargets", "adapterDtype", "weightsDtype", "batching",
    "optimizer", "sharding", "lossKernel", "attention", *FLAGS, *COUNTS,
)  # fmt: skip
KNOWN = {
    *REQUIRED, *WORDS, *OPTIONAL_FLAGS, *TEXTS, "gradientAccumulation", "measuredGiB",
}  # fmt: skip


DEEPSPEED = ("zero2", "zero3")

POST_NORMS, CAPPED = re.compile(r"gemma-?[234](?!b)"), re.compile(r"gemma-?2(?!b)")
HEAD_NORMS = re.compile(r"gemma-?[34](?!b)|qwen-?3(?!b)|olmo-?2")
"""What widths do not tell: norms after attention and MLP, scores that pass a tanh, norms of queries and keys. gemma-2b is
the first Gemma, which has none of them."""

MOST = 10**15
"""Of any count: a thousand times the largest model, and far from where arithmetic ends."""

LONGEST_SHOWN = 60
"""Characters of a wrong value in a message."""


def scenario_of(line: str) -> tuple[str, MemoryScenario]:
    """Read one line; return its id and the scenario. Raises ScenarioInvalid."""
    raw = object_of(line)
    _check(raw)
    return raw["id"], _scenario(raw)


def object_of(line: str) -> dict[str, Any]:
    """Return the JSON object of a line. Raises ScenarioInvalid."""
    try:
        raw = json.loads(line, parse_float=_number)
    except ValueError as error:
        raise ScenarioInvalid(f"not JSON: {error}") from error
    except RecursionError as error:
        raise ScenarioInvalid("nested too deeply to be a scenario") from error
    if not isinstance(raw, dict):
        raise ScenarioInvalid("a line must be a JSON object")
    return raw


def _number(text: str) -> float:
    """JSON Schema counts 16.0 among the integers, and tables that knew no integers are full of it."""
    number = float(text)
    return int(number) if number.is_integer() else number


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _check(raw: Mapping[str, Any]) -> None:
    """Refuse what the schema does not allow."""
    if unknown := sorted(set(raw) - KNOWN):
        raise ScenarioInvalid(f"unknown field {unknown[0]}")
    if missing := [key for key in REQUIRED if key not in raw]:
        raise ScenarioInvalid(f"field {missing[0]} is missing")
    for key in ("id", *TEXTS):
        if key in raw and not isinstance(raw[key], str):
            raise ScenarioInvalid(f"{key} must be a string, not {_shown(raw[key])}")
    for key, words in WORDS.items():
        if key in raw and raw[key] not in words:
            raise ScenarioInvalid(f"{key} must be one of {', '.join(words)}, not {_shown(raw[key])}")
    for key in (*FLAGS, *OPTIONAL_FLAGS):
        if key in raw and not isinstance(raw[key], bool):
            raise ScenarioInvalid(f"{key} must be true or false, not {_shown(raw[key])}")
    for key in COUNTS:
        _count(raw, key, least=1)
    _count(raw, "gradientAccumulation", least=1)
    measured = raw.get("measuredGiB", 0.0)
    if isinstance(measured, bool) or not isinstance(measured, (int, float)):
        raise ScenarioInvalid(f"measuredGiB must be a number, not {_shown(measured)}")
    _check_model(raw["model"])
    _check_adapter(raw)


def _count(raw: Mapping[str, Any], key: str, *, least: int, inside: str = "") -> None:
    if key not in raw:
        return
    value = raw[key]
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ScenarioInvalid(f"{inside}{key} must be a whole number of at least {least}, not {_shown(value)}")
    if value > MOST:
        raise ScenarioInvalid(f"{inside}{key} must be at most {MOST:.0e}, not {_shown(value)}")


def _check_model(model: Any) -> None:  # any JSON value
    if not isinstance(model, dict):
        raise ScenarioInvalid(f"model must be an object, not {_shown(model)}")
    known = {*MODEL_COUNTS, *MODEL_OPTIONAL, "name", "gatedMlp", "tiedEmbeddings", "separateHeadCopy"}
    if unknown := sorted(set(model) - known):
        raise ScenarioInvalid(f"unknown field model.{unknown[0]}")
    for key in (*MODEL_COUNTS, "gatedMlp", "tiedEmbeddings"):
        if key not in model:
            raise ScenarioInvalid(f"field model.{key} is missing")
    for key in MODEL_COUNTS:
        _count(model, key, least=1, inside="model.")
    for key in MODEL_OPTIONAL:
        _count(model, key, least=0, inside="model.")
    for key in ("gatedMlp", "tiedEmbeddings", "separateHeadCopy"):
        if key in model and not isinstance(model[key], bool):
            raise ScenarioInvalid(f"model.{key} must be true or false, not {_shown(model[key])}")
    if not isinstance(model.get("name", ""), str):
        raise ScenarioInvalid(f"model.name must be a string, not {_shown(model['name'])}")
    tables = model["vocabSize"] * model["hiddenSize"]
    if model["parameters"] < tables + model["layers"]:
        raise ScenarioInvalid(
            f"model.parameters {model['parameters']} leaves nothing for layers besides vocabSize x hiddenSize = {tables}"
        )


def _check_adapter(raw: Mapping[str, Any]) -> None:
    """An adapter has rank, targets and type; full fine-tuning has none of them."""
    targets, rank, dtype = raw["loraTargets"], raw["loraRank"], raw["adapterDtype"]
    if dtype not in ("float32", "bfloat16", None):
        raise ScenarioInvalid(f"adapterDtype must be float32, bfloat16 or null, not {_shown(dtype)}")
    if targets is not None:
        if not isinstance(targets, list):
            raise ScenarioInvalid(f"loraTargets must be a list or null, not {_shown(targets)}")
        for target in targets:
            if target not in TARGETS:
                raise ScenarioInvalid(f"loraTargets must be among {', '.join(TARGETS)}, not {_shown(target)}")
    if rank is not None:
        _count(raw, "loraRank", least=1)
    if raw["method"] != "full" and (rank is None or not targets):
        raise ScenarioInvalid(f"method {raw['method']} needs loraRank and loraTargets")


def _scenario(raw: Mapping[str, Any]) -> MemoryScenario:
    stacked = raw["lossKernel"] == "tiled"
    shape, method = shape_of(raw["model"], stacked=stacked), raw["method"]
    adapter = None if method == "full" else adapter_of(raw, shape)
    objective = raw.get("objective", "sft")
    reference = raw.get("reference", "copy" if method == "full" else "disabled-adapter")
    # DeepSpeed's engine casts the model to its one type and keeps masters with the optimizer.
    float32 = raw["weightsDtype"] == "float32" and raw["sharding"] not in DEEPSPEED
    return MemoryScenario(
        shape=shape, method=method, quantization=raw["quantization"],
        quantized_experts=raw.get("quantizedExperts", not stacked), adapter=adapter,
        trains_embeddings=raw["trainsEmbeddings"], float32_weights=float32, autocast=float32,
        float32_residual=raw["residualFloat32"], sequence_length=raw["sequenceLength"],
        micro_batch_size=raw["microBatchSize"], accumulates=raw.get("gradientAccumulation", 1) > 1,
        batching=raw["batching"], activation_checkpointing=raw["activationCheckpointing"],
        activation_offload=raw["activationOffload"], parameter_offload=raw["parameterOffload"],
        optimizer_offload=raw.get("optimizerOffload", False) or raw["parameterOffload"],
        optimizer=raw["optimizer"], optimizer_in_backward=raw["optimizerInBackward"], sharding=raw["sharding"],
        num_gpus=raw["numGpus"], loss_kernel=raw["lossKernel"], attention=raw["attention"],
        compiled=raw["torchCompile"], objective=objective, reference=reference,
    )  # fmt: skip


def shape_of(model: Mapping[str, Any], *, stacked: bool) -> Shape:
    """Return the widths of a scenario's model. Stacked experts (transformers 5) go backward together, not in a loop."""
    h, v, i = model["hiddenSize"], model["vocabSize"], model["intermediateSize"]
    tied = model["tiedEmbeddings"] and not model.get("separateHeadCopy", False)
    experts, shared = max(1, model.get("experts", 1)), model.get("sharedExperts", 0)
    chosen = max(1, model.get("expertsPerToken", 1)) if experts > 1 else 1
    matrices = 3 if model["gatedMlp"] else 2
    name = model.get("name", "").lower().rpartition("/")[2]
    return Shape(
        num_parameters=model["parameters"],
        num_embedding_parameters=min(model["parameters"], v * h * (1 if tied else 2)),
        num_expert_parameters=experts * matrices * h * i * model["layers"] if experts > 1 else 0,
        hidden_size=h, num_layers=model["layers"], num_heads=model["attentionHeads"],
        query_width=model["attentionHeads"] * model["headDim"],
        key_value_width=model["keyValueHeads"] * model["headDim"],
        mlp_width=(chosen + shared) * i,
        backward_width=(chosen + shared) * i if stacked or experts == 1 else max(shared * i, chosen * i // experts),
        widest_mlp=i, routed_width=chosen * h if stacked and experts > 1 else 0, vocab_size=v,
        gated=model["gatedMlp"], tied=tied,
        extra_norms=2 if POST_NORMS.match(name) else 0, capped_scores=bool(CAPPED.match(name)),
        qk_norm=bool(HEAD_NORMS.match(name)), float32_scales=name.startswith("gemma"),
    )  # fmt: skip


def adapter_of(raw: Mapping[str, Any], shape: Shape) -> AdapterLoad:
    """Return the adapter of a scenario: rank x (inputs + outputs) per target and layer."""
    model, targets, rank = raw["model"], raw["loraTargets"], raw["loraRank"]
    experts = max(1, model.get("experts", 1))
    i, h, q, kv = model["intermediateSize"], shape.hidden_size, shape.query_width, shape.key_value_width
    sides = {
        "q": (h, q), "k": (h, kv), "v": (h, kv), "qkv": (h, q + 2 * kv), "o": (q, h),
        "gate": (h, i), "up": (h, i), "down": (i, h),
    }  # fmt: skip
    count, inputs, outputs, weights, normed = 0, 0, 0, 0, (0, 0)
    for target in dict.fromkeys(targets):
        if target == "lm_head":
            count += rank * (h + shape.vocab_size)
            continue
        if target == "gate" and not shape.gated:
            continue
        copies = 1
        if target in ("gate", "up", "down") and experts > 1:
            copies = (experts if raw.get("loraExperts", False) else 0) + model.get("sharedExperts", 0)
        count += copies * shape.num_layers * rank * sum(sides[target])
        inputs += sides[target][0] * (copies > 0)
        outputs += sides[target][1] * (copies > 0)
        normed = max(normed, sides[target]) if copies else normed
        weights += sides[target][0] * sides[target][1] * copies
    return AdapterLoad(
        num_parameters=count, input_width=inputs, output_width=outputs, normed_inputs=normed[0],
        normed_outputs=normed[1],
        adapts_down="down" in targets and experts == 1,
        dtype=raw["adapterDtype"] or "float32", casts_inputs=(raw["adapterDtype"] or "float32") == "float32",
        dropout=raw.get("loraDropout", raw["lossKernel"] == "litgpt"),
        dora=raw.get("loraVariant") == "dora", adalora=raw.get("loraVariant") == "adalora",
        materialized_weights=weights if raw.get("loraVariant") == "dora" else 0,
    )  # fmt: skip
