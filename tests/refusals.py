"""Bad manifests and the words in which they are refused (data/refusals.yaml), with and without an API server."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from finetune_operator.api.spec import FineTuneJobSpec

Manifest = dict[str, Any]
ABSENT = "ABSENT"
REPOSITORY = Path(__file__).parent.parent
TABLE = REPOSITORY / "tests/data/refusals.yaml"

UNCHECKED = (
    "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid;"
    " correct the existing errors to complete validation"
)
"""What the API server adds when an object has not even the shape that the rules need."""

GOOD_JOB = {
    "apiVersion": "finetune.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "good", "namespace": "default"},
    "spec": {
        "model": {"source": "hf://org/model"},
        "datasets": [{"source": "s3://bucket/train.jsonl"}],
        "output": {"destination": "s3://bucket/adapter"},
    },
}
GOOD_POOL = {
    "apiVersion": "finetune.dev/v1alpha1",
    "kind": "GPUPool",
    "metadata": {"name": "good"},
    "spec": {
        "gpuType": "NVIDIA-H100-80GB-HBM3",
        "gpusPerNode": 8,
        "maxNodes": 2,
        "node": {"cpus": 8, "memoryGiB": 100, "ephemeralGiB": 100},
        "pricePerGPUHourUSD": "2.50",
    },
}
GOOD = {"FineTuneJob": GOOD_JOB, "GPUPool": GOOD_POOL}


@dataclass(frozen=True)
class Refusal:
    """A manifest that is refused."""

    manifest: Manifest
    kubectl: str
    """The API server's line, whole."""
    finetune: str
    """The command line's, whole."""


def with_defaults(manifest: Manifest) -> Manifest | None:
    """Return a job with the static defaults written out, as older definitions stored it; None for one that cannot be read.

    Entries of lists never had any.
    """
    try:
        spec = FineTuneJobSpec.model_validate(manifest["spec"], strict=True, by_alias=True, by_name=False)
    except ValueError:
        return None
    return manifest | {
        "spec": _filled(spec.model_dump(mode="json", by_alias=True, exclude_none=True), manifest["spec"])
    }


def _filled(whole: Manifest, written: Manifest) -> Manifest:
    return {
        key: _filled(value, written.get(key, {})) if isinstance(value, dict) else written.get(key, value)
        for key, value in whole.items()
    }


def refusals() -> list[Refusal]:
    """Return the whole table."""
    table = yaml.safe_load(TABLE.read_text())
    return [_refusal(kind, row) for kind, rows in table.items() for row in rows]


def _refusal(kind: str, row: Manifest) -> Refusal:
    manifest = changed(GOOD[kind], row["set"])
    line = f"[{row['kubectl']}, {UNCHECKED}]" if row.get("incomplete") else row["kubectl"]
    subject = f'{kind}.finetune.dev "{manifest["metadata"]["name"]}"'
    return Refusal(manifest, f"{subject} is invalid: {line}", row["finetune"])


def changed(good: Manifest, changes: Manifest) -> Manifest:
    """Return a copy of a manifest with values set (or ABSENT) at dotted paths such as spec.datasets.0.source."""
    manifest = copy.deepcopy(good)
    for path, value in changes.items():
        *parents, last = path.split(".")
        place: Any = manifest
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        if value == ABSENT:
            del place[last]
        else:
            place[last] = value
    return manifest


def examples() -> list[Path]:
    """Return every manifest under examples/, claims and Secrets included."""
    return sorted((REPOSITORY / "examples").glob("*/*.yaml"))  # below that are tasks of lm-eval


def own_examples() -> list[Path]:
    """Return the manifests of our kinds under examples/."""
    return [
        path for path in examples() if "kind: FineTuneJob" in path.read_text() or "kind: GPUPool" in path.read_text()
    ]
