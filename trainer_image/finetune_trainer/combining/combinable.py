"""Which adapters can become one: LoRA matrices only, of one revision of one base model. Called by updates, combine and preflight.

Imports no torch: preflight has none.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from finetune_contract.engines import Trait, traits_of

from finetune_trainer.errors import UserError

COMBINABLE = frozenset(
    {Trait.RSLORA, Trait.RANK_PATTERN, Trait.ALPHA_PATTERN, Trait.SOME_LAYERS, Trait.HEAD, Trait.LARGE_RANK}
)
"""What an update says in full; the other traits are more than an update of a matrix."""

PREFIX = "base_model.model."
Shape = tuple[int, int]
"""Outputs and inputs of a layer."""

IN_A_LAYER = re.compile(r"[^.]+\.\d+\..+$")
"""What a layer's matrix is called inside the list of layers."""

A, B = ".lora_A.weight", ".lora_B.weight"


def base_of(described: dict[str, Any]) -> tuple[str, str]:
    """Return base model and revision of an adapter, as its adapter_config.json names them."""
    return str(described.get("base_model_name_or_path") or ""), str(described.get("revision") or "")


def require_lora(described: dict[str, Any], uri: str) -> None:
    """Raise UserError for an adapter of another kind: its matrices mean something else."""
    kind = described.get("peft_type", "LORA")
    if kind != "LORA":
        raise UserError("ModelUnsupported", f"{uri} is a {kind} adapter: only LoRA adapters can be combined")


def layers_of(described: dict[str, Any], tensors: Iterable[str], uri: str) -> list[str]:
    """Return the layers that an adapter changes. Raises UserError for one that is more than LoRA matrices."""
    found = set(tensors)
    require_lora(described, uri)
    if more := sorted(map(str, traits_of(described, found) - COMBINABLE)):
        raise UserError(
            "ModelUnsupported",
            f"{uri} has {', '.join(more)}, which cannot be combined: use adapters of LoRA matrices only",
        )
    names = sorted(name.removesuffix(A) for name in found if name.endswith(A))
    pairs = {name + end for name in names for end in (A, B)}
    if odd := sorted(found.symmetric_difference(pairs)):
        what = "lacks" if odd[0] in pairs else "holds"
        raise UserError(
            "ModelUnsupported",
            f"{uri} {what} {odd[0]}{f' and {len(odd) - 1} more' if len(odd) > 1 else ''}: only pairs of lora_A.weight and lora_B.weight "
            "can be combined",
        )
    if not names:
        raise UserError("ModelInvalid", f"{uri} holds no tensors: copy the adapter again")
    return names


def refuse_other_layers(adapters: Sequence[tuple[str, Mapping[str, Shape]]]) -> None:
    """Raise UserError where adapters disagree about a layer: its size, or what it is called."""
    for (one, first), (two, second) in combinations(adapters, 2):
        for name in sorted(first.keys() & second.keys()):
            if first[name] != second[name]:
                (rows, columns), (others, other_columns) = first[name], second[name]
                raise UserError(
                    "ModelUnsupported",
                    f"{_bare(name)} is {rows} x {columns} in {one} and {others} x {other_columns} in {two}: they belong to different "
                    "base models",
                )
        if not first.keys() & second.keys():
            _refuse_other_names(one, first, two, second)


def _refuse_other_names(one: str, first: Iterable[str], two: str, second: Iterable[str]) -> None:
    """Raise UserError where both change the same layers under other names: a server would ignore one of them without a word."""
    named = {found[0]: name for name in sorted(first) if (found := IN_A_LAYER.search(name))}
    for name in sorted(second):
        found = IN_A_LAYER.search(name)
        if found is not None and found[0] in named:
            raise UserError(
                "ModelUnsupported",
                f"{two} calls {_bare(name)} what {one} calls {_bare(named[found[0]])}: they were saved from differently wrapped models, "
                "and a server would ignore one of them. Save both from the same class of model",
            )


def _bare(name: str) -> str:
    return name.removeprefix(PREFIX)


def layer_shapes(tensors: Mapping[str, Any]) -> dict[str, Shape]:
    """Return the size of each layer's matrix, from tensors that have a shape."""
    names = (name.removesuffix(A) for name in tensors if name.endswith(A))
    return {name: (tensors[name + B].shape[0], tensors[name + A].shape[1]) for name in names}


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
