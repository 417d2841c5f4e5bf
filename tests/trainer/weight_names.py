"""The table of tensor names and shapes by family, from transformers' own classes.

`python -m tests.trainer.weight_names` writes it anew, after a change of transformers or of the families that can be planned.
Models are built on torch's meta device: names and shapes without memory.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from finetune_trainer.preflight.layout import TABLE, layered, pattern
from finetune_trainer.preflight.sizes import sizes
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.core_model_loading import revert_weight_conversion

from tests.trainer.test_architecture_exact import CASES, SMALL

OTHER = {
    "vocab_size": 1216,
    "hidden_size": 160,
    "intermediate_size": 344,
    "num_attention_heads": 10,
    "num_key_value_heads": 5,
}
"""Another set of sizes: a dimension that is the same word in both is no coincidence."""


HEADS = ("lm_head.", "embed_out.")
"""The head is there or tied, whatever else is."""


def table() -> dict[str, Any]:
    """Return what preflight compares weights with: per family the names outside layers, the sets inside, and shapes."""
    return {family: _family(family) for family in sorted({kind for _, kind, _ in CASES})}


def _family(family: str) -> dict[str, Any]:
    outside: list[list[str]] = []
    layouts: list[list[list[str]]] = []
    optional: set[str] = set()
    shapes: dict[str, list[set[str]]] = {}
    container = _container(_built(family, next(_settings(family))[0]).state_dict())
    for fewer, more in _settings(family):
        for less, all_names in zip(_forms(family, fewer), _forms(family, more), strict=True):
            found, switched = layered(less.tensors, container), layered(all_names.tensors, container)
            for number, names in switched.layers.items():
                optional |= names - found.layers[number]
            _add(layouts, sorted(sorted(kind) for kind in {frozenset(names) for names in found.layers.values()}))
            _add(outside, sorted(name for name in found.outside if not name.startswith(HEADS)))
            for name, tensor in all_names.tensors.items():
                _narrow(shapes, pattern(name, container), tuple(tensor.shape), all_names.sizes)
    named = {name: [min(dim, default="") for dim in dims] for name, dims in sorted(shapes.items()) if any(dims)}
    return {
        "container": container, "outside": outside, "layouts": sorted(layouts), "optional": sorted(optional), "shapes": named,
    }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    tensors: dict[str, Any]
    sizes: dict[str, int]


def _forms(family: str, settings: dict[str, Any]) -> tuple[_Form, _Form]:
    """Return the tensors as the class names them and as its files do."""
    model = _built(family, settings)
    words = sizes(model.config.get_text_config())
    memory = dict(model.state_dict())
    return tuple(_Form(tensors=each, sizes=words) for each in (memory, revert_weight_conversion(model, dict(memory))))


def _add(found: list[Any], one: Any) -> None:
    if one not in found:
        found.append(one)


def _narrow(shapes: dict[str, list[set[str]]], name: str, shape: tuple[int, ...], words: dict[str, int]) -> None:
    possible = [{word for word, size in words.items() if size == length} for length in shape]
    known = shapes.setdefault(name, possible)
    shapes[name] = (
        [before & now for before, now in zip(known, possible, strict=True)] if len(known) == len(possible) else [set()]
    )


def _container(tensors: Any) -> str:
    """Return where most numbered tensors are: the list of layers."""
    heads = [match[1] for name in tensors if (match := re.match(r"(.*?)\.\d+\.", name))]
    return max(set(heads), key=heads.count)


def _settings(family: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield the cases of a family, with the switches that only add names off, then on, for every set of the others."""
    for _, kind, overrides in CASES:
        if kind != family:
            continue
        plain = SMALL | overrides
        yield plain, plain  # also where several switches together mean something else
        adding, others = _switches(family, plain)
        on = {key: not value for key, value in adding.items()}
        for values in product(*[(False, True)] * len(others)):
            chosen = plain | dict(zip(others, values, strict=True))
            yield chosen | adding, chosen | on
        yield plain | OTHER | adding, plain | OTHER | on


def _switches(family: str, plain: dict[str, Any]) -> tuple[dict[str, bool], list[str]]:
    """Return the switches that add names within layers, each as it is without them, and those that replace names."""
    names = set(_built(family, plain).state_dict())
    written = CONFIG_MAPPING[family](**fitting(family, plain)).to_dict()
    adding, replacing = {}, []
    for flag, value in written.items():
        if not isinstance(value, bool) or flag == "tie_word_embeddings":
            continue
        try:
            other = set(_built(family, plain | {flag: not value}).state_dict())
        except Exception:  # noqa: BLE001 - a switch that this family refuses changes no names
            continue
        if other != names and (other > names or other < names):
            adding[flag] = value if other > names else not value
        elif other != names:
            replacing.append(flag)
    return adding, replacing


def fitting(family: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Leave out what the configuration of a family does not take."""
    unknown = ("num_key_value_heads", "intermediate_size") if family == "falcon" else ()
    return {key: value for key, value in settings.items() if key not in unknown}


def _built(family: str, settings: dict[str, Any]) -> Any:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(CONFIG_MAPPING[family](**fitting(family, settings)))


def written(found: dict[str, Any]) -> str:
    """Return the text of the file: one family a line."""
    lines = (f"{json.dumps(family)}: {json.dumps(entry)}" for family, entry in found.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    Path(TABLE).write_text(written(table()))
