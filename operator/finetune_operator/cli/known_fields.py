"""Which field was meant by one that does not exist. Called by manifest_file; pure."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, get_args

from finetune_operator.api.fields import Model

CLOSE = 0.7
"""Likeness from which on a name is taken for a misspelling (difflib's ratio): dataset and datasets, not lr and learningRate."""


def meant(kind: type[Model], path: str) -> str | None:
    """Return the path of the known field that an unknown one was probably meant to be; None where nothing is near.

    The same name at another place wins, then a like name beside it, then a like name anywhere.
    """
    known = list(field_paths(kind, "spec"))
    parent, name = _split(path)
    elsewhere = [each for each in known if _plain(_split(each)[1]) == _plain(name)]
    beside = [each for each in known if _split(each)[0] == parent]
    return next(iter(elsewhere or _like(name, beside) or _like(name, known)), None)


def field_paths(kind: type[Model], prefix: str) -> Iterator[str]:
    """Return the paths of all fields below a struct as a user writes them; items of a list are `[]`."""
    for name, field in kind.model_fields.items():
        path = f"{prefix}.{field.alias or name}"
        yield path
        below = _struct(field.annotation)
        if below is not None:
            yield from field_paths(below, f"{path}[]" if _is_list(field.annotation) else path)


def leaf_paths(kind: type[Model]) -> list[str]:
    """Return the paths of all fields that hold a value, as `rerun --set` takes them: without `spec.`, the first item of a list as [0]."""
    paths = list(field_paths(kind, "spec"))
    inner = {path.rpartition(".")[0].removesuffix("[]") for path in paths}
    return [path.removeprefix("spec.").replace("[]", "[0]") for path in paths if path not in inner]


def _struct(annotation: Any) -> type[Model] | None:
    """Return the struct in a field's type, whatever is around it: optional, list, annotated."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation
    return next((found for each in get_args(annotation) if (found := _struct(each)) is not None), None)


def _is_list(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", None) is list or any(map(_is_list, get_args(annotation)))


def _split(path: str) -> tuple[str, str]:
    parent, _, name = path.rpartition(".")
    return parent, name


def _plain(name: str) -> str:
    """Return a name without what its case convention adds: learning_rate and learningRate are one."""
    return name.replace("_", "").replace("-", "").lower()


def _like(name: str, paths: list[str]) -> list[str]:
    by_name = {_plain(_split(path)[1]): path for path in reversed(paths)}
    return [by_name[found] for found in get_close_matches(_plain(name), by_name, n=1, cutoff=CLOSE)]
