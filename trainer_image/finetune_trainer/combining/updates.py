"""Adapters as the updates that they make: one matrix per adapted layer. Called by combine.

An update is scale x B x A, whatever scales it: rslora and patterns of ranks and alphas are inside, so that nothing of them can be lost.
PEFT's add_weighted_adapter keeps use_rslora of the first adapter, and its "linear" adds the As and the Bs apart, which is another sum. Of
PEFT only the pruning and the election of signs are used, on whole updates.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft.utils.merge_utils import dare_linear, ties
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError
from safetensors.torch import load_file

from finetune_trainer.combining.combinable import PREFIX, A, B, Shape, base_of, layers_of
from finetune_trainer.errors import UserError
from finetune_trainer.publishing.adapter_facts import ADAPTER_CONFIG, ADAPTER_WEIGHTS

DEFAULT_ALPHA = 8
"""PEFT's, where an adapter_config.json names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """B x A of one layer, scaled."""

    b: torch.Tensor
    a: torch.Tensor

    def whole(self) -> torch.Tensor:
        """Return the matrix."""
        return self.b @ self.a


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """One adapter, by layer."""

    described: dict[str, Any]
    updates: dict[str, Update]

    @property
    def shapes(self) -> dict[str, Shape]:
        """The size of each layer's matrix."""
        return {name: (update.b.shape[0], update.a.shape[1]) for name, update in self.updates.items()}

    @property
    def base(self) -> tuple[str, str]:
        """Base model and revision."""
        return base_of(self.described)


def read_adapter(folder: Path, uri: str) -> Adapter:
    """Read an adapter. Raises UserError for one that is more than LoRA matrices, or is not whole."""
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(
                "ModelInvalid", f"{uri} has no {name}: save the adapter with save_pretrained of PEFT, in safetensors"
            )
    described = json.loads((folder / ADAPTER_CONFIG).read_text())
    try:
        tensors = load_file(folder / ADAPTER_WEIGHTS)
    except SafetensorError as error:
        raise UserError("ModelInvalid", f"{ADAPTER_WEIGHTS} of {uri} is not whole: copy the adapter again") from error
    names = layers_of(described, tensors, uri)
    if broken := next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), ""):
        raise UserError(
            "ModelInvalid",
            f"{broken} of {uri} holds values that are no numbers: its training diverged. Leave this adapter out",
        )
    return Adapter(described=described, updates={name: _update(described, tensors, name) for name in names})


def _update(described: dict[str, Any], tensors: dict[str, torch.Tensor], name: str) -> Update:
    layer = name.removeprefix(PREFIX)
    a, b = tensors[name + A].float(), tensors[name + B].float()
    return Update(a=a, b=b * scale_of(described, layer, a.shape[0]))


def scale_of(described: dict[str, Any], layer: str, rank: int) -> float:
    """Return what B x A of a layer is multiplied by. `rank`: that of the pattern, where there is one."""
    return alpha_of(described, layer) / (math.sqrt(rank) if described.get("use_rslora") else rank)


def alpha_of(described: dict[str, Any], layer: str) -> float:
    """Return the LoRA alpha of a layer."""
    alphas = described.get("alpha_pattern") or {}
    return float(alphas.get(get_pattern_key(alphas.keys(), layer), described.get("lora_alpha", DEFAULT_ALPHA)))


def added(updates: Sequence[Update], weights: Sequence[float]) -> Update:
    """Return the weighted sum, exactly: the matrices stand side by side."""
    b = torch.cat([update.b * weight for update, weight in zip(updates, weights, strict=True)], dim=1)
    return Update(b=b, a=torch.cat([update.a for update in updates]))


def narrowed(update: Update, rank: int) -> Update:
    """Return the nearest update of a rank: its largest singular values. The whole matrix is never made."""
    left, right = torch.linalg.qr(update.b), torch.linalg.qr(update.a.T)
    core = nearest(left.R @ right.R.T, rank)
    return Update(b=left.Q @ core.b, a=core.a @ right.Q.T)


def nearest(whole: torch.Tensor, rank: int) -> Update:
    """Return the nearest update of a rank to a whole matrix."""
    u, s, v = torch.linalg.svd(whole, full_matrices=False)
    root = s[:rank].sqrt()
    return padded(Update(b=u[:, :rank] * root, a=root[:, None] * v[:rank]), rank)


def padded(update: Update, rank: int) -> Update:
    """Return the same update with zeros up to a rank: servers load adapters of one rank only."""
    missing = rank - update.a.shape[0]
    if not missing:  # pad() would copy it
        return update
    pad = torch.nn.functional.pad
    return Update(b=pad(update.b, (0, missing)), a=pad(update.a, (0, 0, 0, missing)))


def elected(updates: Sequence[Update], weights: Sequence[float], density: float) -> torch.Tensor:
    """TIES: the largest values of each, of the sign that outweighs the other (arXiv 2306.01708)."""
    return ties([update.whole() for update in updates], torch.tensor(weights), density)


def dropped(updates: Sequence[Update], weights: Sequence[float], density: float) -> torch.Tensor:
    """DARE: values are dropped at random, and the others scaled up (arXiv 2311.03099)."""
    return dare_linear([update.whole() for update in updates], torch.tensor(weights), density)
