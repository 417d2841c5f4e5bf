"""Is a config.json that of a language model which we can tune? Refusals say what it is instead. Called by model."""

import json
import re
from codecs import BOM_UTF8
from importlib.metadata import version
from pathlib import Path
from typing import Any

from finetune_contract import Model, shorten
from transformers import AutoConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from finetune_trainer.errors import UserError
from finetune_trainer.preflight.completeness import families
from finetune_trainer.storage.headers import Tensor
from finetune_trainer.storage.naming import some
from finetune_trainer.storage.pages import BEGINNING_BYTES, page

NESTED = ("text_config", "llm_config", "language_config")
"""Where multimodal models keep the configuration of their decoder."""

LANGUAGE_HEAD = re.compile(r"CausalLM|LMHead|ConditionalGeneration")
"""In the names of classes that write text."""

SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
SEES = ("vision_config", "audio_config", "visual", "vision_tower", "mm_vision_tower")
ROPE_TYPES = frozenset({"default", *ROPE_INIT_FUNCTIONS})

QUANTISED = ("quantization_config", "compression_config", "quantization")
"""Keys of a configuration that describe quantised weights; the last one is MLX's."""

KINDS = (
    ("quantised weights, such as GPTQ, AWQ, MLX, bitsandbytes or FP8",
     re.compile(r"\.(qweight|qzeros|g_idx|scales|weight_scale(_inv)?|weight_packed|weight_shape|weight_zero_point|input_scale|"
                r"absmax|nested_absmax|quant_map|SCB|weight_format)$|\.quant_state\."),
     "use the unquantised model; method qlora quantises it while loading"),
    ("a classifier, a reward model or a similar model",
     re.compile(r"(^|\.)(score|classifier|qa_outputs|v_head|value_head|reward_head|regression_head|rm_head|classification_head)\."),
     "use the language model that it was made from"),
    ("an adapter that was not merged",
     re.compile(r"\.(lora_[AB]|lora_embedding_[AB]|lora_magnitude_vector|base_layer|modules_to_save|original_module)\b"),
     "merge it (merge_and_unload in PEFT) and save the result, or set spec.model.source to its base model and "
     "spec.lora.initialAdapter to the adapter"),
)  # fmt: skip
"""What tensors a model may hold that is no plain language model: what they are, their names, the remedy."""

PACKED_TYPES = frozenset({"U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F4", "F6_E2M3", "F6_E3M2", "I32", "U32"})
"""Types of tensors that hold quantised weights."""

WRAPPERS = {
    "_orig_mod": "torch.compile",
    "_fsdp_wrapped_module": "FSDP",
    "_forward_module": "a DeepSpeed or Lightning wrapper",
    "_checkpoint_wrapped_module": "activation checkpointing",
    "module": "DistributedDataParallel",
    "base_model": "a PEFT model",
}
"""Parts of names that a wrapper around the model leaves in its files."""


def _own_code(uri: str, kind: str) -> str:
    """Say what else to take: model.trustRemoteCode would run the code, but no plan can be made for a type without a rule for its memory."""
    return (
        f"{uri} is of type {kind!r}, which brings its own Python code and whose memory use cannot be estimated: choose a model of one of "
        f"the types {', '.join(sorted(families()))}, or a copy that was converted to one of them"
    )


def check_family(config: dict[str, Any], model: Model, uri: str) -> None:
    """Refuse what is no decoder, needs code that may not run, or is quantised already. Raises UserError(ModelUnsupported)."""
    kind = config.get("model_type")
    named = ", ".join(_classes(config)) or "no architecture"
    if not isinstance(kind, str) or not kind:
        raise UserError(
            "ModelInvalid",
            f"config.json of {uri} has no model_type ({named}): use the config.json that transformers saved with the model",
        )
    _check_quantised(config, uri)
    own_code = "auto_map" in config and kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if own_code and not model.trust_remote_code:
        raise UserError("ModelUnsupported", _own_code(uri, kind))
    if kind not in CONFIG_MAPPING_NAMES and not own_code:
        raise UserError(
            "ModelUnsupported",
            f"{uri} is of type {kind!r} ({named}), which transformers {version('transformers')} of this trainer does not "
            "support: use a "
            "newer trainer image, or another model",
        )
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not model.trust_remote_code:
        sees = any(key in config for key in SEES)
        what = (
            "a multimodal model whose text part transformers cannot train alone"
            if sees
            else "which is not a causal language model that transformers can train"
        )
        raise UserError(
            "ModelUnsupported",
            f"{uri} is of type {kind!r} ({named}), {what}: choose a decoder such as Llama, Qwen, Mistral or Gemma",
        )
    _check_head(config, uri)


def _check_quantised(config: dict[str, Any], uri: str) -> None:
    places = {"": config} | {f"{key}.": config[key] for key in NESTED if isinstance(config.get(key), dict)}
    for place, part in places.items():
        key = next((key for key in QUANTISED if part.get(key)), "")
        if not key:
            continue
        where = f", from {place}{key}" if place else ""
        method = _quantised_by(part[key])
        raise UserError(
            "ModelUnsupported",
            f"the weights of {uri} are already quantised ({method}{where}) and cannot be trained: use the unquantised "
            "model; method qlora quantises it while loading",
        )


def _quantised_by(described: Any) -> str:
    """MLX alone says the bits without saying its name."""
    if not isinstance(described, dict):
        return str(described)
    return str(described.get("quant_method") or ("MLX" if {"bits", "group_size"} <= described.keys() else "unknown"))


def _classes(config: dict[str, Any]) -> list[str]:
    found = config.get("architectures")
    return [found] if isinstance(found, str) else [str(name) for name in found or ()]


def _check_head(config: dict[str, Any], uri: str) -> None:
    """Refuse classes without a language head."""
    for name in _classes(config):
        if not LANGUAGE_HEAD.search(name):
            raise UserError(
                "ModelUnsupported",
                f"{uri} is a {name}, which has no language model head, like any encoder, classifier, reward or embedding "
                "model: the head would start from random numbers. Use the language model that it was made from",
            )


GATHER = (
    "save the model again with stage3_gather_16bit_weights_on_model_save: true in the configuration of DeepSpeed, or with a full state "
    "dict of FSDP"
)
GATHER_HERE = (
    "run `python zero_to_fp32.py . whole --safe_serialization` in its folder, and use the "
    "model in whole/ in place of these weights"
)
"""DeepSpeed puts that script beside the parts that it writes."""


def check_kind(tensors: dict[str, Tensor], uri: str, *, gather: str = GATHER) -> None:
    """Refuse tensors that only a quantised model, a classifier, an adapter or a wrapped model has.

    `gather` says how to make whole tensors of those that are empty.
    """
    for what, names, remedy in KINDS:
        if found := [name for name in tensors if names.search(name)]:
            raise UserError(
                "ModelUnsupported",
                f"{len(found)} of {len(tensors)} tensors of {uri} belong to {what} ({some(found)}): {remedy}",
            )
    if packed := [f"{name} ({tensor.dtype})" for name, tensor in tensors.items() if tensor.dtype in PACKED_TYPES]:
        raise UserError(
            "ModelUnsupported",
            f"{len(packed)} of {len(tensors)} tensors of {uri} hold integers or 8-bit floats ({some(packed)}): the weights are "
            "quantised. Use the unquantised model; method qlora quantises it while loading",
        )
    _check_wrapped(tensors, uri)
    if empty := [name for name, tensor in tensors.items() if 0 in tensor.shape]:
        raise UserError(
            "ModelInvalid",
            f"{len(empty)} of {len(tensors)} tensors of {uri} are empty ({some(empty)}), as a process writes them that holds only a "
            f"part of the model (ZeRO stage 3, FSDP): {gather}",
        )


def _check_wrapped(tensors: dict[str, Tensor], uri: str) -> None:
    for part, wrapper in WRAPPERS.items():
        wrapped = [name for name in tensors if part in name.split(".")[:-1]]
        if wrapped:
            raise UserError(
                "ModelInvalid",
                f"{len(wrapped)} of {len(tensors)} tensors of {uri} have {part} in their names ({some(wrapped)}), which {wrapper} "
                f"adds: transformers would not find them. Save the unwrapped model with save_pretrained, or remove "
                f"{part} from the names",
            )


def text_config(folder: Path, config: dict[str, Any], model: Model) -> Any:
    """Return the decoder's configuration as transformers reads it. Raises UserError for what it cannot read or we cannot plan."""
    uri = model.location.uri
    try:
        read = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=model.trust_remote_code)
        text = read.get_text_config(decoder=True)
    except Exception as error:  # every class validates in its own way; the file is at fault, whatever it raises
        problem = shorten(" ".join(str(error).split()), 300)
        scaling = config.get("rope_scaling")
        old = isinstance(scaling, dict) and scaling.get("type") == "su"
        remedy = (
            "In rope_scaling, replace su with its current name, longrope"
            if old
            else "Use the config.json that was saved with the weights"
        )
        raise UserError(
            "ModelInvalid",
            f"transformers {version('transformers')} cannot read config.json of {uri}: {problem}. {remedy}",
        ) from error
    _check_sizes(text, uri)
    _check_rope(text, uri)
    # Where either says so, transformers ties them.
    text.tie_word_embeddings = bool(text.tie_word_embeddings or read.tie_word_embeddings)
    if text.model_type not in families() and not model.trust_remote_code:
        raise UserError(
            "ModelUnsupported",
            f"{uri} is of type {text.model_type!r}, whose memory use cannot be estimated: choose a model of one of the types "
            f"{', '.join(sorted(families()))}",
        )
    return text


def _check_sizes(text: Any, uri: str) -> None:
    for key in SIZES:
        value = getattr(text, key, None)
        if not isinstance(value, int) or value < 1:
            raise UserError(
                "ModelInvalid",
                f"config.json of {uri} says {key} {value!r}, which is not a valid size: use the config.json that was saved "
                "with the weights",
            )


def _check_rope(text: Any, uri: str) -> None:
    """Refuse positions for which transformers has no function: it would look for one when the model is built."""
    found = getattr(text, "rope_parameters", None) or {}
    for one in (found, *(inner for inner in found.values() if isinstance(inner, dict))):
        kind = one.get("rope_type", "default")
        if kind not in ROPE_TYPES:
            raise UserError(
                "ModelUnsupported",
                f"config.json of {uri} has rope_type {kind!r}, which transformers "
                f"{version('transformers')} of this trainer does not support (supported: {', '.join(sorted(ROPE_TYPES))}): "
                "use a newer "
                "trainer image, or another model",
            )


def generation_config(folder: Path, uri: str) -> dict[str, Any]:
    """Return generation_config.json, empty where there is none. Raises UserError(ModelInvalid) where it cannot be read."""
    file = folder / "generation_config.json"
    return object_of(file, uri) if file.is_file() else {}


def object_of(file: Path, uri: str) -> dict[str, Any]:
    """Return the object that a JSON file holds. Raises UserError(ModelInvalid)."""
    content = file.read_bytes()
    if found := page(content[:BEGINNING_BYTES]):
        raise UserError("ModelInvalid", f"{file.name} of {uri} cannot be used: {found}. Copy it again")
    if content.startswith(BOM_UTF8):
        raise UserError(
            "ModelInvalid", f"{file.name} of {uri} begins with a byte order mark: save it as UTF-8 without BOM"
        )
    try:
        value = json.loads(content.decode("utf-8"))
    except ValueError as error:
        raise UserError(
            "ModelInvalid", f"{file.name} of {uri} is not JSON ({error}): copy it again, or correct it"
        ) from error
    if not isinstance(value, dict):
        raise UserError(
            "ModelInvalid", f"{file.name} of {uri} holds a {type(value).__name__}, not a JSON object: copy it again"
        )
    return value
