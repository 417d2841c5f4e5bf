"""`--set PATH=VALUE`: a change of one field of a spec, with the rules of the API. Called by rerun and resume; pure."""

import copy
import itertools
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from finetune_operator.api.group import API_VERSION, JOB_KIND
from finetune_operator.cli.manifest_file import ManifestInvalid, parse_job, scalar
from finetune_operator.errors import FinetuneError

PATH = re.compile(r"[A-Za-z_]\w*(\[\d+\])?(\.[A-Za-z_]\w*(\[\d+\])?)*")
PART = re.compile(r"([A-Za-z_]\w*)(?:\[(\d+)\])?")
PLACEHOLDER = "check"

Spec = dict[str, Any]


def changed(spec: Mapping[str, Any], changes: Iterable[str]) -> Spec:
    """Return the spec with each PATH=VALUE applied. Raises FinetuneError for a path or value that the API does not know.

    A value is read as YAML: true, 3, [a, b]; a field that wants text gets it as it was typed, so that 1e-4 needs no quotes.
    An empty value removes the field.
    """
    result = copy.deepcopy(dict(spec))
    for change in changes:
        path, equals, text = change.partition("=")
        path = path.removeprefix("spec.")
        if not equals or not PATH.fullmatch(path):
            raise FinetuneError(f"--set {change} is not PATH=VALUE, such as training.learningRate=1e-4")
        result = _applied(result, path, text)
    return result


def _applied(spec: Spec, path: str, text: str) -> Spec:
    if not text:
        return _valid(_with(spec, path, None))
    typed, as_text = _with(spec, path, scalar(text)), _with(spec, path, text)
    try:
        return _valid(typed)
    except ManifestInvalid as error:
        try:
            return _valid(as_text)
        except ManifestInvalid:
            raise error from None


def _valid(spec: Spec) -> Spec:
    """Return the spec. Raises ManifestInvalid with the rules that it breaks."""
    document = {"apiVersion": API_VERSION, "kind": JOB_KIND, "metadata": {"name": PLACEHOLDER}, "spec": spec}
    parse_job(json.dumps(document))
    return spec


def _with(spec: Spec, path: str, value: Any) -> Spec:
    result = copy.deepcopy(spec)
    place: Any = result
    keys = _keys(path)
    for key, following in itertools.pairwise(keys):
        if isinstance(key, int):
            if key >= len(place):
                raise FinetuneError(f"--set {path}: there is no item {key}; the list has {len(place)}, counted from 0")
            place = place[key]
            continue
        place = place.setdefault(key, [] if isinstance(following, int) else {})
        if not isinstance(place, dict | list):
            raise FinetuneError(f"--set {path}: {key} is a value, so it has no field {following}")
    last = keys[-1]
    if value is None and isinstance(place, dict):
        place.pop(last, None)
    elif isinstance(last, int) and last >= len(place):
        raise FinetuneError(f"--set {path}: there is no item {last}; the list has {len(place)}, counted from 0")
    else:
        place[last] = value
    return result


def _keys(path: str) -> list[str | int]:
    """Return `datasets[0].source` as its steps."""
    keys: list[str | int] = []
    for part in path.split("."):
        match = PART.fullmatch(part)
        assert match is not None, "PATH has been checked"
        keys += [match[1], *([int(match[2])] if match[2] else [])]
    return keys
