"""What a job.yaml for somebody's data says: the format and columns as the trainer's own code finds them. Called by init."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune_operator.api.group import API_VERSION, JOB_KIND
from finetune_operator.cli.data import DOCUMENTS, PLAIN_PATH
from finetune_operator.cli.init_text import Dataset, Draft, name_of
from finetune_operator.cli.manifest_file import JobManifest, parse_job
from finetune_operator.cli.plan_page import outline
from finetune_operator.cli.trainer_here import look
from finetune_operator.errors import DoesNotFit, FinetuneError


def drafted(data: str, model: str, note: str, *, name: str, output: str, file: str) -> Draft:
    """Look at the data and decide what the job says. Raises FinetuneError with what to do where it cannot be trained."""
    source, base = location(data), model_location(model)
    objective = "cpt" if data.lower().endswith(DOCUMENTS) else "sft"
    title = name or name_of(data)
    beside = (
        source.rpartition("/")[0]
        if source.startswith(("file://", "s3://", "gs://", "az://")) and source.count("/") > 3
        else ""
    )
    if not output and not beside:
        output = f"file://{Path.cwd()}/{title}-adapter"
    return Draft(
        name=title,
        file=file,
        model=base,
        model_note=note,
        objective=objective,
        dataset=examined(data, source, base, objective),
        output=output or f"{beside}/{title}-adapter",
    )


def location(given: str) -> str:
    """Return the URI of data. Raises FinetuneError for a path that does not exist or cannot stand in a URI."""
    if "://" in given:
        return given
    path = Path(given).expanduser().absolute()
    if "*" not in given and not path.exists():
        raise FinetuneError(f"{given} does not exist: name a file or folder on this machine, or hf://ORG/NAME")
    if not PLAIN_PATH.fullmatch(str(path)):
        raise FinetuneError(
            f"{path} has a space or another character that a URI of a job cannot hold: rename it, or copy it to a path of "
            "letters, digits and . _ = + , ~ -"
        )
    return f"file://{path.resolve()}"


def model_location(given: str) -> str:
    """Return the URI of a model: a folder on this machine, or its name on the hub."""
    if "://" in given:
        return given
    folder = Path(given).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise FinetuneError(f"{given} has no config.json: name the folder of a model, or its name on the hub")
        return location(given)
    if given.count("/") != 1 or given.startswith((".", "/", "~")):
        raise FinetuneError(f"{given} is neither a folder on this machine nor ORG/NAME on the hub")
    return f"hf://{given}"


def examined(shown: str, source: str, model: str, objective: str) -> Dataset:
    """Return the data as the trainer reads it. Raises FinetuneError for data on this machine that cannot be used."""
    found = look(sketch(source, model, objective))
    first: Mapping[str, Any] = found.datasets[0] if found.datasets else {"error": found.error}
    if not first["error"]:
        return seen(shown, source, first)
    if not source.startswith("file://"):
        return Dataset(shown=shown, source=source, not_read=_one_line(first["error"]))
    if (guessed := first.get("suggested")) is None:
        raise FinetuneError(first["error"])
    return seen(shown, source, guessed)


def seen(shown: str, source: str, found: Mapping[str, Any]) -> Dataset:
    """Return what was found of data that can be read."""
    if not found["rows"]:
        raise FinetuneError(f"{shown} has no rows")
    named = found.get("named", {})
    asks = (text for role, text in found["first"] if role in ("user", "prompt"))
    return Dataset(
        shown=shown, source=source, rows=found["rows"], columns=found["columns"], named=named, guessed=bool(named),
        first_prompt=next(asks, ""), labels=tuple(found["labels"]), warnings=tuple(found["warnings"]), found=(dict(found),),
    )  # fmt: skip


def sketch(source: str, model: str, objective: str) -> JobManifest:
    """Return a job on the data that is complete enough to read it."""
    spec = {
        "model": {"source": model}, "objective": objective, "datasets": [{"source": source}],
        "output": {"destination": "file:///tmp/sketch"},
    }  # fmt: skip
    return parse_job(
        json.dumps({"apiVersion": API_VERSION, "kind": JOB_KIND, "metadata": {"name": "sketch"}, "spec": spec})
    )


def planned(job: JobManifest, datasets: Sequence[dict[str, Any]]) -> str:
    """Return what the job would take on the built-in pools, or why it cannot be planned; the job is valid all the same."""
    try:
        return outline(job, datasets)
    except DoesNotFit as refusal:
        return f"none of the built-in pools fits: {_one_line(refusal.message)}"
    except FinetuneError as error:
        return f"not yet: {_one_line(str(error))}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
