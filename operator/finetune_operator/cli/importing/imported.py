"""What an import comes to: a spec, and what a reader of it must know. Pure; made by the modules of the tools."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from finetune_operator.api.group import API_VERSION, JOB_KIND
from finetune_operator.cli.manifest_file import ManifestInvalid, parse_job

PLACE = "s3://your-bucket/"
"""Where data and results are said to be when the other tool keeps them elsewhere."""

ONLY = "a FineTuneJob trains on answers (objective sft) or plain text (objective cpt)"
"""Why a run of another kind is refused."""

LONGEST_VALUE = 60
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
FOLDERS = frozenset(
    "data dataset datasets model models output outputs saves checkpoints checkpoint examples results workspace mnt".split()
)
FILES = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".txt", ".arrow", ".zst", ".gz")


@dataclass(kw_only=True)
class Imported:
    """A job in the making."""

    tool: str
    name: str
    spec: dict[str, Any] = field(default_factory=dict)
    fill_in: list[str] = field(default_factory=list)
    """What only the user knows; the job does not run before it is written."""
    differs: list[str] = field(default_factory=list)
    """What means something else here."""
    planned: list[str] = field(default_factory=list)
    """Settings that the planner chooses here."""
    dropped: list[str] = field(default_factory=list)
    """Settings without an equivalent."""

    def put(self, path: str, value: Any) -> None:
        """Set a field of the spec, unless there is no value."""
        if value in (None, "", [], {}):
            return
        place = self.spec
        *parents, last = path.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value

    def leave(
        self, settings: Iterable[tuple[str, Any]], planned: Iterable[str] = (), silent: Iterable[str] = ()
    ) -> None:
        """Tell what was not read: chosen by the planner here, or without an equivalent; `silent` changes nothing that is learned."""
        chosen, quiet = set(planned), set(silent)
        for path, value in settings:
            name = path.rpartition(".")[2]
            if name in quiet or name.startswith(("wandb", "mlflow", "report_to", "logging", "comet")):
                continue
            (self.planned if name in chosen else self.dropped).append(f"{path}: {short(value)}")


def short(value: Any) -> str:
    """Return a value for a comment."""
    text = " ".join(str(value).split())
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def number_text(value: float | None) -> str | None:
    """Return a number as the API takes decimals: 2e-4, 0.05; None for none."""
    if value is None:
        return None
    return f"{value:g}".replace("e-0", "e-")


def whole(value: float | None) -> int | None:
    """Return a whole number; None for none, and for one that says `no limit`."""
    return int(value) if value is not None and value > 0 else None


def split_of(job: Imported, given: str) -> str:
    """Return the split without the slice that the `datasets` library allows: train[:20%]."""
    split, bracket, _ = given.partition("[")
    if bracket:
        job.differs.append(
            f"split {given}: splits are not sliced here: set datasets[].maxExamples to train on a random sample"
        )
    return "" if split == "train" else split


def settled(job: Imported) -> Imported:
    """Leave out what breaks a rule of the API, and say so: a job that is imported is valid. Raises FinetuneError for what is needed."""
    while True:
        try:
            parse_job(
                json.dumps(
                    {"apiVersion": API_VERSION, "kind": JOB_KIND, "metadata": {"name": job.name}, "spec": job.spec}
                )
            )
        except ManifestInvalid as error:
            broken = [each for each in error.violations if _dropped(job.spec, each.path.removeprefix("spec."))]
            if not broken:
                raise
            job.differs += [f"{each.path} was left out: {each.message}" for each in broken]
        else:
            return job


def _dropped(spec: dict[str, Any], path: str) -> bool:
    """Remove a field; tell whether it was there and could be."""
    place: Any = spec
    *parents, last = re.findall(r"[^.\[\]]+", path)
    for parent in parents:
        place = place[int(parent)] if isinstance(place, list) else place.get(parent)
        if place is None:
            return False
    return isinstance(place, dict) and place.pop(last, None) is not None


def model_source(job: Imported, name: str) -> str:
    """Return where a model is. A path on the other machine becomes a place to fill in."""
    if name.startswith(("hf://", "s3://", "gs://", "az://", "oci://", "pvc://", "file://")):
        return name
    if on_hub(name):
        return f"hf://{name}"
    job.fill_in.append(
        f"spec.model.source: {short(name) or 'the base model'} is not a name on the hub: upload it, or set its URI"
    )
    return f"{PLACE}models/{_last(name) or 'model'}"


def on_hub(name: str) -> bool:
    """Tell ORG/NAME from a path: folders of a project have names that organisations do not."""
    return HUB_NAME.fullmatch(name) is not None and name.partition("/")[0].lower() not in FOLDERS


def data_source(job: Imported, given: str, number: int = 0) -> str:
    """Return where data is. A file on the other machine becomes a place to fill in."""
    place = given.partition("?")[0]
    if place.startswith(("hf://", "s3://", "gs://", "az://", "oci://", "pvc://", "file://")) or (
        place.startswith("https://") and PurePosixPath(place).suffix
    ):
        return place
    if on_hub(place) and PurePosixPath(place).suffix not in FILES:
        return f"hf://{place}"
    job.fill_in.append(
        f"spec.datasets[{number}].source: {short(given) or 'the training data'}: upload it, and set its URI"
    )
    return f"{PLACE}data/{_last(place) or 'train.jsonl'}"


def destination(job: Imported, given: str, hub: str = "") -> str:
    """Return where the result goes: the hub repository of the other tool, else a place to fill in."""
    if HUB_NAME.fullmatch(hub):
        job.differs.append(f"the result goes to hf://{hub}, with checkpoints at checkpoint.destination")
        job.put("checkpoint.destination", f"{PLACE}checkpoints/{job.name}")
        job.fill_in.append(
            "spec.checkpoint.destination, spec.output.credentials: a bucket or volume, and a Secret with HF_TOKEN"
        )
        return f"hf://{hub}"
    job.fill_in.append(
        f"spec.output.destination: {short(given) or 'the result'} becomes a folder at s3://, pvc:// or hf://"
    )
    return f"{PLACE}{job.name}"


def _last(path: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", path.rstrip("/").rpartition("/")[2]).strip(".-")
