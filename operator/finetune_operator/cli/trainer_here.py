"""The trainer's own programs, run on this machine instead of in a Pod. Called by data, init and plan."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_contract import ENV_ALLOW_FILE, ENV_RUN_CONFIG, ENV_WORKSPACE, PreflightReport
from finetune_contract.wire import dumps, loads

from finetune_operator.api.meta import Metadata
from finetune_operator.api.status import FineTuneJob
from finetune_operator.cli.manifest_file import JobManifest
from finetune_operator.errors import FinetuneError
from finetune_operator.manifests.run_config import preflight_config

NEEDED = ("transformers", "pyarrow", "huggingface_hub", "s3fs")
EXTRA = "finetune-operator[preflight]"
LAST_LINES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedAt:
    """What the datasets of a job are."""

    datasets: tuple[dict[str, Any], ...]
    """One object per dataset: rows, format, columns, characters, first; or error, columns and suggestion."""
    error: str
    """Why they could not be read at all; empty otherwise."""
    report: PreflightReport | None
    """What preflight would report; None if only the columns were looked at."""


def is_installed() -> bool:
    """Tell whether the trainer's libraries are there."""
    return all(importlib.util.find_spec(name) for name in NEEDED)


def check_installed(what: str) -> None:
    """Raise FinetuneError with the command to type when the trainer's libraries are not there."""
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise FinetuneError(f"{what} needs {', '.join(missing)}, which is not installed: pip install '{EXTRA}'")


def look(job: JobManifest, *, tokens: bool = False) -> LookedAt:
    """Say what the data of a job is. Raises FinetuneError where the trainer's libraries are missing or break."""
    check_installed("reading data")
    done = run_trainer(("look", *(["--tokens"] if tokens else [])), job, capture=True)
    if done.returncode:
        said = " / ".join(done.stderr.strip().splitlines()[-LAST_LINES:])
        raise FinetuneError(f"the data cannot be examined: {said or f'exit code {done.returncode}'}")
    found = json.loads(done.stdout.splitlines()[-1])
    report = loads(PreflightReport, json.dumps(found["report"])) if found["report"] else None
    return LookedAt(datasets=tuple(found["datasets"]), error=found["error"], report=report)


def run_trainer(
    arguments: Sequence[str], job: JobManifest, *, capture: bool = False, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a verb of the trainer with a job's preflight configuration, in a Pod's environment."""
    metadata = Metadata(name=job.name, namespace=job.namespace, uid="preview", generation=1)
    config = dumps(preflight_config(FineTuneJob(metadata=metadata, spec=job.spec), 1))
    with tempfile.TemporaryDirectory(prefix="finetune-here-") as folder:
        run = Path(folder) / "run.json"
        run.write_text(config)
        own = {ENV_RUN_CONFIG: str(run), ENV_WORKSPACE: folder, ENV_ALLOW_FILE: "1"}
        return subprocess.run(
            [sys.executable, "-m", "finetune_trainer", *arguments],
            env=os.environ
            | {"PYTHONIOENCODING": f"{sys.stdout.encoding}:backslashreplace"}
            | own
            | (environment or {}),
            check=False,
            text=True,
            capture_output=capture,
        )
