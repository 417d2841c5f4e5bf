"""What a Pod is told, its run file, and what it leaves, the outcome. Called by every verb that runs in a Pod."""

import os
from pathlib import Path
from typing import TypeVar

from finetune_contract import ENV_RUN_CONFIG, ENV_TERMINATION_LOG, ExitCode, Outcome, outcome_text
from finetune_contract.run_file import UnknownFields, read

from finetune_trainer.errors import UserError

T = TypeVar("T")


def told(kind: type[T]) -> T:
    """Return the configuration. Raises UserError where it asks for what this image does not know."""
    try:
        return read(kind, Path(os.environ[ENV_RUN_CONFIG]).read_text(encoding="utf-8"))
    except UnknownFields as error:
        fields = f"field{'s' if len(error.paths) > 1 else ''} {error}"
        raise UserError(
            "TrainerOutdated",
            f"the image of this Pod is older than the operator and does not know the {fields}, which the job uses: set trainer.image and "
            "trainer.preflightImage of the chart to images of the operator's version",
        ) from error


def refused(error: UserError) -> int:
    """Report that the Pod cannot do what it is told; returns the exit code."""
    print(left(Outcome(outcome="Failed", reason=error.reason, message=error.message)), flush=True)
    return int(ExitCode.USER_ERROR)


def left(outcome: Outcome) -> str:
    """Write an outcome to where the kubelet reads it; returns its text."""
    text = outcome_text(outcome)
    if path := os.environ.get(ENV_TERMINATION_LOG):
        Path(path).write_text(text)
    return text
