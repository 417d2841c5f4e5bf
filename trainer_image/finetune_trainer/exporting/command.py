"""`python -m finetune_trainer export`: configuration in, outcome and exit code out. What is printed is kept."""

import os
import sys
from dataclasses import replace
from pathlib import Path

from finetune_contract import (
    ENV_WORKSPACE,
    ExitCode,
    ExportConfig,
    Outcome,
    export_log_folder,
)

from finetune_trainer.errors import UserError
from finetune_trainer.journal.keeper import Keeping
from finetune_trainer.journal.transcript import Transcript
from finetune_trainer.process import verdict
from finetune_trainer.storage.secrecy import redacted
from finetune_trainer.told import left, refused, told


def main() -> int:
    """Make what is missing and say how it went. Returns the exit code."""
    try:
        config = told(ExportConfig)
    except UserError as error:
        return refused(error)
    workspace = Path(os.environ[ENV_WORKSPACE])
    folder = workspace / "journal"
    transcript = Transcript(folder, f"export-{config.number}")
    transcript.follow()
    try:
        outcome = exported(config, workspace)
        outcome = replace(outcome, message=redacted(outcome.message))
        left(outcome)
        print(f"{outcome.outcome} {outcome.reason}: {outcome.message}", flush=True)
    finally:
        transcript.end()
    if failure := Keeping(folder, config.checkpoint, export_log_folder(config.uid)).store():
        print(redacted(failure), flush=True)
    return int(verdict.exit_code(outcome)) if outcome.outcome != "Succeeded" else int(ExitCode.DONE)


def exported(config: ExportConfig, workspace: Path) -> Outcome:
    """Return the outcome, also of an exception that nobody foresaw. What is published by then is left at once, and named by a failure."""
    said: list[Outcome] = []

    def tell(outcome: Outcome) -> None:
        said.append(outcome)
        left(outcome)

    quiet()
    try:
        from finetune_trainer.exporting.export import export  # noqa: PLC0415 - torch and friends: six seconds

        return export(config, workspace, tell)
    except Exception as error:  # noqa: BLE001 - the outcome is the only thing that leaves the Pod
        print(redacted(verdict.trace(error)), file=sys.stderr, flush=True)
        failed = verdict.failure(error)
        return replace(failed, artifacts=said[-1].artifacts, evaluation=said[-1].evaluation) if said else failed


def quiet() -> None:
    """Keep libraries from calling home, from filling the log, and from looking for a GPU."""
    for name, value in {
        "CUDA_VISIBLE_DEVICES": "", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "warning", "TOKENIZERS_PARALLELISM": "false", "DS_ACCELERATOR": "cpu",
    }.items():  # fmt: skip
        os.environ.setdefault(name, value)
