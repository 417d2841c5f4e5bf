"""The settings in which jobs differ, and as a table. Pure; called by diff, rerun and compare."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from finetune_operator.api.spec import FineTuneJobSpec

MISSING = "-"


def whole(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a spec with its static defaults, as the operator reads it: only what somebody chose differs then."""
    return FineTuneJobSpec.model_validate(spec).model_dump(mode="json", by_alias=True, exclude_none=True)


def written(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a spec without values that are the static defaults, as API servers once filled them in: as somebody would write it."""
    found = FineTuneJobSpec.model_validate(spec).model_dump(
        mode="json", by_alias=True, exclude_none=True, exclude_defaults=True
    )
    return _without_empty(found)


def _without_empty(value: dict[str, Any]) -> dict[str, Any]:
    below = {key: _without_empty(each) if isinstance(each, dict) else each for key, each in value.items()}
    return {key: each for key, each in below.items() if each != {}}


def flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every field of a spec that holds a value, as PATH and text."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
        for index, inner in enumerate(value):
            yield from flat(inner, f"{path}[{index}]")
    elif value is not None and value != []:
        yield path, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def differing(specs: Sequence[Mapping[str, Any]]) -> list[tuple[str, tuple[str, ...]]]:
    """Return the fields in which specs differ, each with its value in every spec; - where it is not set."""
    tables = [dict(flat(spec)) for spec in specs]
    paths = list(dict.fromkeys(path for table in tables for path in table))
    rows = [(path, tuple(table.get(path, MISSING) for table in tables)) for path in paths]
    return [(path, values) for path, values in rows if len(set(values)) > 1]


def change_lines(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return a line for each field that a change changes."""
    return [f"{path}: {old} -> {new}" for path, (old, new) in differing([before, after])]
