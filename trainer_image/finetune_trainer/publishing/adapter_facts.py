"""What an adapter is, read from its own files: a continued one differs from what the job's spec says.

Called by artifacts and card.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_contract.engines import Servable, Trait, base_traits, largest_rank, servable_by, summary, traits_of
from safetensors import safe_open

from finetune_trainer.chat.stops import stop_token_ids

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFacts:
    """An adapter as PEFT describes it."""

    rank: int
    """The largest of any module."""
    alpha: int
    variant: str
    """standard | rslora | dora | adalora"""
    target_modules: tuple[str, ...]
    servable_by: tuple[Servable, ...]
    """What each inference server does with it."""
    stops: tuple[int, ...] = ()
    """Tokens that end its answers, where its base model does not stop at all of them."""

    @property
    def servable(self) -> str:
        """Which servers load it as it is, in one line."""
        return summary(self.servable_by)


def adapter_facts(folder: Path, model_type: str = "") -> AdapterFacts | None:
    """Read the adapter in a folder; None where there is none. `model_type`: that of its base model, where it is known."""
    path = folder / ADAPTER_CONFIG
    if not path.is_file():
        return None
    stops = sorted(stop_token_ids(folder))
    return facts_of(json.loads(path.read_text()), tensor_names(folder), stops, model_type)


def tensor_names(folder: Path) -> tuple[str, ...]:
    """Return the names of an adapter's tensors."""
    path = folder / ADAPTER_WEIGHTS
    if not path.is_file():
        return ()
    with safe_open(path, framework="pt") as file:
        return tuple(file.keys())


def facts_of(
    described: dict[str, Any], tensors: Iterable[str] = (), stops: Iterable[int] = (), model_type: str = ""
) -> AdapterFacts:
    """Return what an adapter_config.json says, and what the tensors and the generation_config.json beside it and the base add to that."""
    own = tuple(stops)
    rank, targets = largest_rank(described), described.get("target_modules") or ()
    return AdapterFacts(
        rank=rank,
        alpha=int(described["lora_alpha"]),
        variant=_variant(described),
        target_modules=(targets,) if isinstance(targets, str) else tuple(sorted(targets)),
        servable_by=servable_by(
            traits_of(described, tensors) | base_traits(model_type) | ({Trait.END} if own else set()), rank
        ),
        stops=own,
    )


def _variant(described: dict[str, Any]) -> str:
    if described.get("peft_type") == "ADALORA":
        return "adalora"
    if described.get("use_dora"):
        return "dora"
    return "rslora" if described.get("use_rslora") else "standard"
