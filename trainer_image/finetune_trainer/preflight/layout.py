"""The tensors of a decoder, layer by layer, and how well they match what a family has. Called by completeness."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

TABLE = Path(__file__).with_name("weight_names.json")
"""Names and shapes by family, written by tests/trainer/weight_names.py from transformers' classes."""

NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
"""The number of an expert, or of a head's norm, in a name: all of a layer have the same tensors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layered:
    """Names of tensors, sorted by the layer that they are in."""

    container: str
    layers: dict[int, set[str]]
    """By number: names within the layer, with # for further numbers."""
    outside: set[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """How names differ from those that a family has; # stands for the number of an expert."""

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Names that are too few or too many."""
        return len(self.missing) + len(self.unexpected)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The names that a family has."""

    container: str
    outside: tuple[frozenset[str], ...]
    """Sets of names outside of layers: one of them is there."""
    layouts: tuple[tuple[frozenset[str], ...], ...]
    """Sets of kinds of layer: the layers of a model are all of kinds of one set."""
    optional: frozenset[str]
    """Names within a layer, such as biases, that all layers of a kind have or none."""
    shapes: dict[str, list[str]] = field(default_factory=dict)
    """By pattern: the word for each dimension, as in sizes; empty where there is none."""

    def differences(self, found: Layered, layers: int) -> Differences:
        """Compare with the layout, and the names outside, that come closest."""
        inside = min((self._inside(found, layers, layout) for layout in self.layouts), key=lambda each: each.count)
        around = min((_compared(found.outside, names) for names in self.outside), key=lambda each: each.count)
        return Differences(
            missing=(*around.missing, *inside.missing), unexpected=(*around.unexpected, *inside.unexpected)
        )

    def _distance(self, names: set[str], kind: frozenset[str]) -> tuple[int, int]:
        """Return how far names are from a kind of layer; what is optional decides only between equals."""
        different = kind ^ names
        return len(different - self.optional), len(different)

    def _inside(self, found: Layered, layers: int, layout: Sequence[frozenset[str]]) -> Differences:
        fits: dict[int, frozenset[str]] = {}
        for number in range(layers):
            fits[number] = min(layout, key=partial(self._distance, found.layers.get(number, set())))
        missing, unexpected = [], []
        for number, kind in fits.items():
            alike = [found.layers.get(other, set()) for other, same in fits.items() if same == kind]
            wanted = kind - self.optional | (self.optional & set[str]().union(*alike))
            compared = _compared(found.layers.get(number, set()), wanted)
            missing += [f"{self.container}.{number}.{name}" for name in compared.missing]
            unexpected += [f"{self.container}.{number}.{name}" for name in compared.unexpected]
        return Differences(missing=tuple(missing), unexpected=tuple(unexpected))


def _compared(found: set[str], wanted: frozenset[str]) -> Differences:
    return Differences(missing=tuple(sorted(wanted - found)), unexpected=tuple(sorted(found - wanted)))


def layered(names: Iterable[str], container: str) -> Layered:
    """Sort names by layer; `container` is the name of the list of layers."""
    layers: dict[int, set[str]] = {}
    outside = set()
    for name in names:
        number, inside = place(name, container)
        if number is None:
            outside.add(name)
        else:
            layers.setdefault(number, set()).add(inside)
    return Layered(container=container, layers=layers, outside=outside)


def place(name: str, container: str) -> tuple[int | None, str]:
    """Return the layer that a tensor is in and its name there, with # for numbers; None and its whole name elsewhere."""
    rest = name.removeprefix(f"{container}.")
    number, _, inside = rest.partition(".")
    if rest == name or not number.isdigit():
        return None, name
    return int(number), NUMBER.sub("#", f".{inside}")[1:]


def pattern(name: str, container: str) -> str:
    """Return a name without the numbers of its layer and expert: the key of a shape."""
    number, inside = place(name, container)
    return name if number is None else f"#.{inside}"
