"""What transformers and PEFT said when they loaded weights: anything that is missing or left over ends the run.

They fill what is missing with random numbers and drop what they do not know, and say so in the log only. Preflight compares the
files' headers; this is exact, because the classes themselves compared. Called by load.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from finetune_trainer.errors import UserError
from finetune_trainer.model.targets import VISION
from finetune_trainer.storage.naming import counted, some
from finetune_trainer.storage.weights import OVERFLOWED

AHEAD = ("mtp.", "model.mtp.")
"""Heads that predict further tokens: part of some models' files, and of none of the classes that train."""

CONFIG = "use the config.json that was saved with these weights"


def assert_all_loaded(info: Mapping[str, Any], uri: str) -> None:
    """Raise UserError(ModelInvalid) unless each weight of the model came from its files, and each tensor went into the model."""
    mismatched = [f"{name} ({_by(there)}, config.json says {_by(asked)})" for name, there, asked in _triples(info)]
    if mismatched:
        raise _refused(uri, mismatched, "holds {} whose shape does not match config.json", CONFIG)
    if missing := sorted(info["missing_keys"]):
        raise _refused(
            uri, missing, "lacks {}, which would start from random numbers", "save the model again with all its weights"
        )
    unexpected = sorted(
        name for name in info["unexpected_keys"] if not VISION.search(name) and not name.startswith(AHEAD)
    )
    if unexpected:
        raise _refused(uri, unexpected, "holds {} that its class does not have and would drop", CONFIG)
    if errors := info["error_msgs"]:
        text = "; ".join(errors) if isinstance(errors, (list, tuple, set)) else str(errors)
        raise UserError("ModelInvalid", f"weights of {uri} cannot be loaded: {' '.join(text.split())[:500]}")


def assert_adapter_loaded(missing: Iterable[str], unexpected: Iterable[str], uri: str) -> None:
    """Raise UserError(ModelInvalid) unless each weight of an initial adapter came from its file, and each tensor was used."""
    if lost := sorted(missing):
        raise _refused(
            uri, lost, "lacks {}, which would start from scratch", "save the adapter again with save_pretrained"
        )
    if unknown := sorted(unexpected):
        raise _refused(
            uri, unknown, "holds {} that match no layer of the base model", "name the base model that it was trained on"
        )


def assert_numbers(model: torch.nn.Module, uri: str) -> None:
    """Raise UserError(ModelInvalid) for weights that are infinite or no numbers: every loss would be none either.

    A part that ZeRO-3 holds on other ranks is looked at there by nobody.
    """
    broken = sorted(name for name, weight in model.named_parameters() if not _is_finite(weight.detach()))
    if broken:
        raise _refused(
            uri,
            broken,
            "holds {} with values that are infinite or not a number",
            OVERFLOWED,
        )


def _is_finite(weight: torch.Tensor) -> bool:
    """Tell whether all values are finite; the smallest and the largest say so without a copy of the weight."""
    if type(weight) is not torch.Tensor or weight.is_meta or not weight.numel() or not weight.is_floating_point():
        return True  # simulated, elsewhere, or packed
    return all(bool(torch.isfinite(end)) for end in torch.aminmax(weight))


def _refused(uri: str, names: list[str], what: str, remedy: str) -> UserError:
    found = what.format(counted(len(names), "tensor"))
    return UserError("ModelInvalid", f"{uri} {found}: {some(names)}; {remedy}")


def _triples(info: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    return sorted(info["mismatched_keys"], key=lambda triple: str(triple[0]))


def _by(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape))
