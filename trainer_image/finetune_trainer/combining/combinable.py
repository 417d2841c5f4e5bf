"""Which adapters can become one: LoRA matrices only, of one revision of one base model. Called by updates, combine and preflight.

Imports no torch: preflight has none.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from finetune_contract.engines import Trait, traits_of

from finetune_trainer.errors import UserError

COMBINABLE = frozenset(
    {Trait.RSLORA, Trait.RANK_PATTERN, Trait.ALPHA_PATTERN, Trait.SOME_LAYERS, Trait.HEAD, Trait.LARGE_RANK}
)
"""What an update says in full; the other traits are more than an update of a matrix."""

A, B = ".lora_A.weight", ".lora_B.weight"


def base_of(described: dict[str, Any]) -> tuple[str, str]:
    """Return base model and revision of an adapter, as its adapter_config.json names them."""
    return str(described.get("base_model_name_or_path") or ""), str(described.get("revision") or "")


def layers_of(described: dict[str, Any], tensors: Iterable[str], uri: str) -> list[str]:
    """Return the layers that an adapter changes. Raises UserError for one that is more than LoRA matrices."""
    found = set(tensors)
    if more := sorted(map(str, traits_of(described, found) - COMBINABLE)):
        raise UserError(
            "ModelUnsupported",
            f"{uri} has {', '.join(more)}, which cannot be combined: use adapters of LoRA matrices only",
        )
    names = sorted(name.removesuffix(A) for name in found if name.endswith(A))
    if {name + end for name in names for end in (A, B)} != found or not names:
        raise UserError(
            "ModelUnsupported",
            f"{uri} holds tensors that are not LoRA matrices of linear layers: it cannot be combined",
        )
    return names


def refuse_strangers(bases: Sequence[tuple[str, tuple[str, str]]]) -> None:
    """Raise UserError unless all adapters, each with its base model and revision, belong to one of both."""
    (first, known), *others = bases
    for uri, base in others:
        if base != known:
            mine, other = (" at revision ".join(filter(None, one)) for one in (base, known))
            raise UserError(
                "InvalidSpec",
                f"{uri} belongs to {mine}, and {first} to {other}: only adapters of one revision of one base model can be combined",
            )
