"""Compare the tensors of an initial adapter with its own config and with the base model. Called by adapter.

PEFT drops tensors that match no layer and starts layers without tensors anew, both in the log only.
"""

import re
from collections.abc import Mapping
from typing import Any

from finetune_trainer.errors import UserError
from finetune_trainer.preflight.completeness import families, own_name
from finetune_trainer.preflight.layout import place
from finetune_trainer.preflight.model import ExaminedModel
from finetune_trainer.storage.headers import Tensor
from finetune_trainer.storage.naming import some

PREFIX = "base_model.model."
PART = re.compile(
    r"\.(lora_A|lora_B|lora_E|lora_embedding_A|lora_embedding_B|lora_magnitude_vector|ranknum)(\.weight)?$"
)
LIMITED = ("layers_to_transform", "layers_pattern", "exclude_modules", "target_parameters", "megatron_config")
"""Keys with which an adapter leaves out layers that its target_modules name."""

Parts = dict[str, dict[str, Tensor]]
"""Tensors of an adapter: layer, then lora_A, lora_B ...; what is no part of LoRA under an empty name."""


def check_adapter(tensors: Mapping[str, Tensor], config: dict[str, Any], base: ExaminedModel, uri: str) -> None:
    """Raise UserError where an adapter is broken (ModelInvalid) or belongs to another base model (ModelUnsupported)."""
    parts = _parts(tensors)
    if not any(part for layer in parts.values() for part in layer):
        raise UserError(
            "ModelInvalid", f"{uri} holds no LoRA weights, only {some(sorted(tensors))}: copy the adapter again"
        )
    _check_halves(parts, uri)
    _check_rank(parts, config, uri)
    if not base.tensors:
        return
    if strange := sorted(layer for layer in parts if not _is_layer(layer, base)):
        raise _other_base(
            uri, f"{len(strange)} of its {len(parts)} layers do not exist in the base model: {some(strange)}"
        )
    if wrong := [text for layer, found in parts.items() for text in _misfits(layer, found, base)]:
        raise _other_base(uri, f"{len(wrong)} of its tensors differ in size from the base model: {some(wrong)}")
    _check_targets(parts, config, base, uri)


def _parts(tensors: Mapping[str, Tensor]) -> Parts:
    parts: Parts = {}
    for name, tensor in tensors.items():
        own = own_name(name.removeprefix(PREFIX).replace(".base_layer", ""))
        match = PART.search(own)
        layer, part = (own[: match.start()], match[1]) if match else (own.removesuffix(".weight"), "")
        parts.setdefault(layer, {})[part] = tensor
    return parts


def _check_halves(parts: Parts, uri: str) -> None:
    pairs = (("lora_A", "lora_B"), ("lora_embedding_A", "lora_embedding_B"))
    lost = sorted(
        f"{layer}.{other}"
        for layer, found in parts.items()
        for first, second in pairs
        for one, other in ((first, second), (second, first))
        if one in found and other not in found
    )
    if lost:
        raise UserError("ModelInvalid", f"{uri} lacks {len(lost)} of its tensors: {some(lost)}. Copy the adapter again")


def _check_rank(parts: Parts, config: dict[str, Any], uri: str) -> None:
    rank = config.get("r")
    if config.get("rank_pattern") or config.get("peft_type") != "LORA" or not isinstance(rank, int):
        return
    other = {
        layer: found["lora_A"].shape[0] for layer, found in parts.items() if "lora_A" in found and not _stacked(layer)
    }
    wrong = [f"{layer} ({found})" for layer, found in other.items() if found != rank]
    if wrong:
        raise UserError(
            "ModelInvalid",
            f"adapter_config.json of {uri} says r {rank}, but {len(wrong)} of its layers have a different rank: "
            f"{some(wrong)}. Use the "
            "adapter_config.json that was saved with these weights",
        )


def _is_layer(layer: str, base: ExaminedModel) -> bool:
    """Say whether the base model has a layer, by its files or by the names that its class gives to what the files hold."""
    if f"{layer}.weight" in base.tensors or layer in base.tensors or _stacked(layer) or layer == "lm_head":
        return True
    family = families()[base.decoder.model_type]
    number, inside = place(f"{layer}.weight", family.container)
    kinds = (kind for layout in family.layouts for kind in layout)
    return number is not None and number < base.decoder.num_hidden_layers and any(inside in kind for kind in kinds)


def _stacked(layer: str) -> bool:
    """Experts are stacked when a model is loaded, in ways of their own: what fits them, the trainer finds."""
    return layer.endswith(".experts") or ".experts." in layer


def _misfits(layer: str, found: dict[str, Tensor], base: ExaminedModel) -> list[str]:
    tensor = base.tensors.get(f"{layer}.weight") or (base.tensors.get(_embedding(base)) if layer == "lm_head" else None)
    if tensor is None or len(tensor.shape) != 2 or _stacked(layer):
        return []
    rows, columns = tensor.shape
    sizes = {
        "lora_A": (1, columns), "lora_B": (0, rows), "lora_embedding_A": (1, rows), "lora_embedding_B": (0, columns),
        "lora_magnitude_vector": (0, rows),
    }  # fmt: skip
    wrong = [
        f"{layer}.{part} ({found[part].shape[side]}, base model {size})"
        for part, (side, size) in sizes.items()
        if part in found and (len(found[part].shape) <= side or found[part].shape[side] != size)
    ]
    if "" in found and found[""].shape != tensor.shape:
        wrong.append(f"{layer}.weight ({_by(found[''])}, base model {_by(tensor)})")
    return wrong


def _embedding(base: ExaminedModel) -> str:
    shapes = families()[base.decoder.model_type].shapes
    return next(
        (name for name, dims in shapes.items() if dims == ["vocab_size", "hidden_size"] and name in base.tensors), ""
    )


def _by(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape))


def _check_targets(parts: Parts, config: dict[str, Any], base: ExaminedModel, uri: str) -> None:
    targets = config.get("target_modules")
    if not isinstance(targets, list) or any(config.get(key) for key in LIMITED):
        return
    layers = (name.removesuffix(".weight") for name, tensor in base.tensors.items() if len(tensor.shape) == 2)
    named = (layer for layer in layers if any(layer == one or layer.endswith(f".{one}") for one in targets))
    lost = sorted(layer for layer in named if layer not in parts and not _stacked(layer))
    if lost:
        raise UserError(
            "ModelInvalid",
            f"{uri} has no weights for {len(lost)} of the layers that its target_modules name: {some(lost)}. They would "
            "start from scratch; "
            "copy the adapter again, or use the adapter_config.json that was saved with these weights",
        )


def _other_base(uri: str, what: str) -> UserError:
    return UserError(
        "ModelUnsupported",
        f"the adapter {uri} does not belong to this base model: {what}. Set spec.model.source to the model that it was "
        "trained on, or train a new adapter",
    )
