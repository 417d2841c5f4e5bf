"""`python -m finetune_trainer preflight`: configuration in, outcome and exit code (0, 87 or 1) out."""

import os
import sys
import traceback
from dataclasses import replace
from pathlib import Path

from finetune_contract import (
    ENV_WORKSPACE,
    ExitCode,
    Outcome,
    PreflightConfig,
    log_folder,
)

from finetune_trainer.errors import ReportedError
from finetune_trainer.journal.keeper import Keeping
from finetune_trainer.journal.transcript import Transcript
from finetune_trainer.storage.secrecy import redacted
from finetune_trainer.told import left, told


def main() -> int:
    """Examine what the run configuration names and say how it went. Returns the exit code. What is printed is kept."""
    without_torch()
    folder = Path(os.environ[ENV_WORKSPACE]) / "journal"
    transcript = Transcript(folder, "printed")
    transcript.follow()
    try:
        outcome, code = examined()
        left(without_secrets(outcome))
        print(f"{outcome.outcome} {outcome.reason}: {redacted(outcome.message)}", flush=True)
    finally:
        transcript.end()
    keep(folder)
    return int(code)


def keep(folder: Path) -> None:
    """Store what was printed, if the configuration says where."""
    try:
        config = told(PreflightConfig)
    except Exception:  # noqa: BLE001 - the outcome has said it
        return
    for part in folder.glob("printed-*"):
        part.rename(part.with_name(part.name.replace("printed", f"generation-{config.generation}", 1)))
    if failure := Keeping(folder, config.checkpoint, log_folder(config.uid, None)).store():
        print(redacted(failure), flush=True)


def without_secrets(outcome: Outcome) -> Outcome:
    """Blot secrets out of the sentences. Addresses and digests stay as they are: a key may be a word in one."""
    report = outcome.preflight
    said = replace(report, warnings=tuple(map(redacted, report.warnings))) if report is not None else None
    return replace(outcome, message=redacted(outcome.message), preflight=said)


def without_torch() -> None:
    """Behave as in the preflight image, which has no torch, also where it is installed: it is large and unused."""
    sys.modules["torch"] = None  # type: ignore[assignment]  # how Python spells "not importable"
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def examined() -> tuple[Outcome, ExitCode]:
    """Return the outcome, also of an exception that nobody foresaw."""
    try:
        from finetune_trainer.preflight.examine import examine  # noqa: PLC0415 - torch must be hidden first

        config = told(PreflightConfig)
        return examine(config, Path(os.environ[ENV_WORKSPACE])), ExitCode.DONE
    except ReportedError as error:
        return Outcome(outcome="Failed", reason=error.reason, message=error.message), error.exit_code
    except Exception as error:  # noqa: BLE001 - the outcome is the only thing that leaves the Pod
        print(redacted(traceback.format_exc()), file=sys.stderr)
        message = f"{type(error).__name__}: {error}; the Pod's log has the traceback"
        return Outcome(outcome="Failed", reason="TrainerError", message=message), ExitCode.ERROR


if __name__ == "__main__":
    sys.exit(main())
