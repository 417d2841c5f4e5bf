"""Compare the tensors of a model's files with what its family has: nothing may be missing, left over or of another shape.

transformers fills what is missing with random numbers and drops what it does not know, and says so in the log only. Called by
model and examine, which read the headers; the trainer asserts the same of the loaded model.
"""

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import groupby
from typing import Any

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from finetune_trainer.errors import UserError
from finetune_trainer.preflight.layout import TABLE, Expected, layered, pattern, place
from finetune_trainer.preflight.sizes import number_of_experts, sizes
from finetune_trainer.storage.headers import Tensor
from finetune_trainer.storage.naming import counted, some

TEXT = (
    ("model.language_model.", "model."),
    ("language_model.model.", "model."),
    ("language_model.lm_head.", "lm_head."),
)
"""How files of multimodal models name their decoder, and how its own class does."""

TOWERS = r"(^|\.)(vision_tower|vision_model|visual|vision_embed_tokens|multi_modal_projector|audio_tower|embed_vision|embed_audio)\."
NOT_READ = re.compile(
    TOWERS + r"|(^|\.)mtp\.|rotary_emb\.inv_freq$|\.(attention|attn)\.(masked_)?bias$|(^|\.)position_ids$"
)
"""Towers that text never reaches, heads that predict further tokens, and buffers of older files: no part of a text decoder."""

EXPERT = re.compile(r"experts\.(\d+)\.")
HEAD = "lm_head.weight"

BIASES = {
    "attention_bias": re.compile(r"(self_attn|attention)\.\w+\.bias$"),
    "mlp_bias": re.compile(r"mlp\.\w+\.bias$"),
    "use_bias": re.compile(r"\.\w+\.bias$"),
    "use_qkv_bias": re.compile(r"self_attn\.[qkv]_proj\.bias$"),
    "qkv_bias": re.compile(r"self_attn\.[qkv]_proj\.bias$"),
}
"""Keys of config.json that say whether a model has biases, and the names of those: transformers drops the others."""

QUERY_BIAS = re.compile(r"(q_proj|query_key_value|c_fc)\.bias$")
"""A bias that a model has wherever it has any."""


def text_tensors(tensors: Mapping[str, Tensor], family: str) -> dict[str, Tensor]:
    """Return the tensors of the text decoder, named as the family's own class names them.

    As transformers does, a prefix of the decoder is added where a file lacks it throughout.
    """
    kept = {own_name(name): tensor for name, tensor in tensors.items() if not NOT_READ.search(name)}
    expected = families()[family]
    root, _, layers = expected.container.rpartition(".")
    if not any(name.startswith(f"{layers}.") for name in kept) or any(name.startswith(f"{root}.") for name in kept):
        return kept
    return {name if name.startswith("lm_head.") else f"{root}.{name}": tensor for name, tensor in kept.items()}


def check_towers(tensors: Mapping[str, Tensor], config: Mapping[str, Any], uri: str) -> None:
    """Raise UserError(ModelInvalid) where the class that trains has towers for images, and the files have none."""
    kind = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(str(config.get("model_type")), "")
    if "ConditionalGeneration" not in kind or not config.get("vision_config"):
        return
    if not any(re.search(TOWERS, name) for name in tensors):
        raise UserError(
            "ModelInvalid",
            f"config.json of {uri} describes an image encoder (vision_config), but the files hold only the text model: the "
            "encoder would "
            "be filled with random numbers. Use the config.json of the text model (its text_config), or all files of the model",
        )


def check_shapes(tensors: Mapping[str, Tensor], config: Any, uri: str) -> None:
    """Raise UserError(ModelInvalid) where config.json gives a tensor another shape. `tensors` as text_tensors names them."""
    expected, words = families()[config.model_type], sizes(config)
    wrong = [
        (name, tensor, dims)
        for name, tensor in tensors.items()
        if (dims := expected.shapes.get(pattern(name, expected.container))) and not _has(tensor, dims, words)
    ]
    if not wrong:
        return
    name, tensor, dims = wrong[0]
    there = " x ".join(map(str, tensor.shape))
    sized = ", ".join(dict.fromkeys(f"{word} {words[word]}" for word in dims if word))
    raise UserError(
        "ModelInvalid",
        f"{uri} holds {counted(len(wrong), 'tensor')} whose shape does not match config.json: {name} is {there}, config.json says "
        f"{sized}. Use the config.json that was saved with these weights",
    )


def check_names(tensors: Mapping[str, Tensor], config: Any, extra_layers: int, uri: str) -> None:
    """Raise UserError(ModelInvalid) where tensors of the decoder are missing or left over. `tensors` as text_tensors names them.

    `extra_layers` follow the others in the files of some families (DeepSeek's, which predict further tokens) and are not read.
    """
    expected, layers = families()[config.model_type], int(config.num_hidden_layers)
    ignored = range(layers, layers + extra_layers)
    names = [name for name in tensors if place(name, expected.container)[0] not in ignored]
    _check_any_match(names, expected, uri)
    found = layered((name for name in names if not name.startswith("lm_head.")), expected.container)
    _check_layers(set(found.layers), layers, uri)
    different = expected.differences(found, layers)
    missing = [*different.missing, *_missing_experts(names, expected, number_of_experts(config))]
    missing += _undeclared(names, expected, config, wanted=True)
    more = [*different.unexpected, *_strange_heads(names), *_undeclared(names, expected, config, wanted=False)]
    if HEAD not in tensors and not config.tie_word_embeddings:
        _check_head_alone(missing, more, uri)
        missing.append(HEAD)
    if missing:
        raise UserError(
            "ModelInvalid",
            f"{uri} lacks {len(missing)} of the tensors that its config.json asks for: {_lacks(missing, more)}",
        )
    if more:
        raise UserError(
            "ModelInvalid",
            f"{uri} holds {counted(len(more), 'tensor')} that a model of type {config.model_type} does not have with this config.json: "
            f"{some(more)}. They would be dropped; use the config.json that was saved with these weights, or remove these tensors",
        )


def _lacks(missing: list[str], more: list[str]) -> str:
    if not more:
        return (
            f"{some(missing)}. They would be filled with random numbers; copy the model's files again, or save it again with all its "
            "weights"
        )
    return (
        f"{some(missing)}. They would be filled with random numbers. In their place it holds {some(more)}: use the config.json that "
        "was saved with these weights, or save the model again with save_pretrained of its transformers class"
    )


def _check_head_alone(missing: list[str], more: list[str], uri: str) -> None:
    """Say what is likely where the head is all that is missing: an embedding model, or a config.json that does not tie it."""
    if missing or more:
        return
    raise UserError(
        "ModelInvalid",
        f"{uri} has no {HEAD}, and its config.json does not tie the head to the embeddings (tie_word_embeddings): the head would start "
        "from random numbers. If this is an embedding model, use the language model that it was made from; else copy the model's "
        "files again, or set tie_word_embeddings to true if the model was trained that way",
    )


def _strange_heads(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith("lm_head.") and name not in (HEAD, "lm_head.bias")]


def _undeclared(names: list[str], expected: Expected, config: Any, *, wanted: bool) -> list[str]:
    """Return biases that config.json asks for and the files lack (`wanted`), or that they hold and it does not ask for."""
    found = []
    for key, form in BIASES.items():
        if getattr(config, key, None) is not wanted:
            continue
        there = [
            name for name in names if place(name, expected.container)[1] in expected.optional and form.search(name)
        ]
        if not wanted:
            found += there
        elif not there:
            found += [
                f"{expected.container}.0.{name}"
                for name in sorted(expected.optional)
                if QUERY_BIAS.search(name) and form.search(name)
            ]
    return found


@lru_cache(maxsize=1)
def families() -> dict[str, Expected]:
    """Return what each family has, by the model type of its text decoder."""
    return {family: _expected(entry) for family, entry in json.loads(TABLE.read_text()).items()}


def embedding_name(family: str) -> str:
    """Return the name of the table of embeddings of a family."""
    shapes = families()[family].shapes
    return next(
        name for name, dims in shapes.items() if dims == ["vocab_size", "hidden_size"] and own_name(name) != HEAD
    )


def _expected(entry: dict[str, Any]) -> Expected:
    return Expected(
        container=entry["container"],
        outside=tuple(map(frozenset, entry["outside"])),
        layouts=tuple(tuple(map(frozenset, layout)) for layout in entry["layouts"]),
        optional=frozenset(entry["optional"]),
        shapes=entry["shapes"],
    )


def own_name(name: str) -> str:
    """Return the name that the text decoder's own class gives to a tensor of a model's files."""
    for written, own in TEXT:
        if name.startswith(written):
            return own + name.removeprefix(written)
    return HEAD if name == "embed_out.weight" else name


def _has(tensor: Tensor, dims: list[str], words: Mapping[str, int]) -> bool:
    """Say whether a shape is the one of the words; where there is no word, or no size for it, any length will do."""
    if len(tensor.shape) != len(dims):
        return False
    return all(not words.get(word) or words[word] == length for word, length in zip(dims, tensor.shape, strict=True))


def _check_any_match(names: list[str], expected: Expected, uri: str) -> None:
    """Say it in one sentence where the files are of another kind altogether, instead of listing all names."""
    if any(place(name, expected.container)[0] is not None for name in names):
        return
    asked = min(expected.outside[0])
    raise UserError(
        "ModelInvalid",
        f"none of the {len(names)} tensors of {uri} belongs to a layer of its model type: they are named {some(names)}, but "
        "names such "
        f"as {asked} and {expected.container}.0. are expected. The model would start from random numbers; save it again with "
        "save_pretrained of its transformers class",
    )


def _check_layers(found: set[int], layers: int, uri: str) -> None:
    if lost := sorted(set(range(layers)) - found):
        raise UserError(
            "ModelInvalid",
            f"{uri} lacks {len(lost)} of the {layers} layers that config.json asks for (num_hidden_layers): {_runs(lost)}. "
            "They would "
            "be filled with random numbers; copy the model's files again, or correct num_hidden_layers",
        )
    if more := sorted(found - set(range(layers))):
        raise UserError(
            "ModelInvalid",
            f"{uri} has {len(found)} layers, but config.json says num_hidden_layers {layers}: the others ({_runs(more)}) "
            "would be dropped; "
            "use the config.json that was saved with these weights",
        )


def _runs(numbers: list[int]) -> str:
    parts = []
    for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        parts.append(str(members[0]) if len(members) == 1 else f"{members[0]} to {members[-1]}")
    return some(parts)


def _missing_experts(names: Iterable[str], expected: Expected, experts: int) -> list[str]:
    """Return the names of single experts that others of their layer have."""
    there: dict[str, set[int]] = {}
    for name in names:
        if place(name, expected.container)[0] is not None and (match := EXPERT.search(name)):
            there.setdefault(EXPERT.sub("experts.#.", name), set()).add(int(match[1]))
    return [
        form.replace("#", str(number), 1)
        for form, found in there.items()
        for number in sorted(set(range(experts)) - found)
    ]
