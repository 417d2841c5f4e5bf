"""What each merged matrix must be, by the adapter's own files: base + scale x B x A, rounded once. Called by merge.

The comparison of answers (agreement) sees a merge that is far off. It does not see a wrong scale of an adapter that changes little, and
PEFT's own arithmetic agrees with itself. So each matrix is calculated a second time here, from the files of the adapter.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora.layer import ParamWrapper
from safetensors.torch import load_file

from finetune_trainer.combining.combinable import PREFIX
from finetune_trainer.combining.updates import alpha_of, scale_of
from finetune_trainer.errors import UserError
from finetune_trainer.publishing.adapter_facts import ADAPTER_CONFIG, ADAPTER_WEIGHTS

SLACK = 1.05
"""Times the unit roundoff: the sum itself is rounded in float32."""

FLOOR = 1e-6
"""Of the largest value of a matrix: float32 products of ranks up to a thousand."""

ROWS = 1024
"""Compared at once: the differences of a whole matrix would need its memory four times."""


@dataclass(kw_only=True)
class Arithmetic:
    """An adapter, as its files say."""

    described: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    seen: Counter[str] = field(default_factory=Counter)
    """checked, and whatever of the adapter has a form that is not calculated here."""

    @classmethod
    def of(cls, folder: Path) -> "Arithmetic":
        """Read an adapter."""
        return cls(
            described=json.loads((folder / ADAPTER_CONFIG).read_text()), tensors=load_file(folder / ADAPTER_WEIGHTS)
        )

    def wanted(self, name: str, layer: Any, base: torch.Tensor) -> torch.Tensor | None:
        """Return the matrix of a layer after the merge, in float32; None for a form that is not calculated here."""
        update = self._update(name, layer)
        if update is None or update.shape != base.shape:
            return None
        whole = base.float() + update
        magnitude = self.tensors.get(f"{name}.lora_magnitude_vector")
        if magnitude is None:
            return whole
        turned = bool(self.described.get("fan_in_fan_out"))
        rows = whole.T if turned else whole
        scaled = rows * (magnitude.float().reshape(-1, 1) / torch.linalg.norm(rows, dim=1, keepdim=True))
        return scaled.T if turned else scaled

    def _update(self, name: str, layer: Any) -> torch.Tensor | None:
        tensors = self.tensors
        if (b := tensors.get(f"{name}.lora_embedding_B")) is not None:
            a = tensors[f"{name}.lora_embedding_A"].float()
            return self._scale(name, len(a)) * (b.float() @ a).T
        if (singular := tensors.get(f"{name}.lora_E")) is not None:
            a, b = tensors[f"{name}.lora_A"].float(), tensors[f"{name}.lora_B"].float()
            return alpha_of(self.described, name.removeprefix(PREFIX)) / (len(a) + 1e-5) * (b @ (a * singular.float()))
        if (b := tensors.get(f"{name}.lora_B.weight")) is None:
            return None
        a, b = tensors[f"{name}.lora_A.weight"].float(), b.float()
        if isinstance(layer, ParamWrapper) and layer.num_experts > 1:
            rank = len(a) // layer.num_experts
            parts = a.reshape(layer.num_experts, rank, -1)
            # which side of a stacked matrix is its input is PEFT's to know
            sides = "e o i" if layer._did_swap_in_out_features else "e i o"  # noqa: SLF001
            summed = torch.einsum(f"o r e, e r i -> {sides}", b.reshape(len(b), rank, layer.num_experts), parts)
            return self._scale(name, rank) * summed
        update = self._scale(name, len(a)) * (b @ a)
        return update.T if self.described.get("fan_in_fan_out") else update

    def _scale(self, name: str, rank: int) -> float:
        return scale_of(self.described, name.removeprefix(PREFIX), rank)

    def check(self, name: str, found: torch.Tensor, wanted: torch.Tensor | None) -> None:
        """Raise UserError(ExportFailed) where a merged matrix is farther from what it must be than 16 bit explain."""
        if wanted is None:
            self.seen["other"] += 1
            return
        self.seen["checked"] += 1
        apart = _apart(found, wanted)
        if apart <= 1:
            return
        kind = str(found.dtype).removeprefix("torch.")
        raise UserError(
            "ExportFailed",
            f"{name} of the merged model is not its base + scale x B x A: a value is {apart:.3g} times as far from it as rounding to "
            f"{kind} explains. It is not published. Serve the adapter with PEFT, and report this as a bug",
        )

    def check_whole_modules(self, model: Any) -> None:
        """Compare the modules that the adapter holds as a whole."""
        parameters = dict(model.named_parameters(remove_duplicate=False))
        for name, tensor in self.tensors.items():
            place = name.removeprefix(PREFIX)
            if "lora_" not in name and place in parameters and parameters[place].shape == tensor.shape:
                self.check(place, parameters[place].detach(), tensor.float())

    def __str__(self) -> str:
        of = f" of {self.seen.total()}" if self.seen["other"] else ""
        return f"{self.seen['checked']}{of} matrices are base + update within 16-bit rounding"


def _apart(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Return the largest distance between two matrices, in units of what rounding allows; infinite where one is no number."""
    info, worst = torch.finfo(found.dtype), 0.0
    floor = max(FLOOR * float(wanted.abs().max()), info.smallest_normal * info.eps)
    for start in range(0, len(wanted), ROWS):
        mine, theirs = found[start : start + ROWS].float(), wanted[start : start + ROWS]
        units = (mine - theirs).abs() / (theirs.abs() * (info.eps / 2 * SLACK) + floor)
        largest = float(units.max())
        worst = max(worst, largest) if largest == largest else float("inf")  # noqa: PLR0124 - NaN is not itself
    return worst
