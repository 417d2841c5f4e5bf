"""Which attempt may write at a checkpoint destination: the one that a file there names. Called by checkpoints.

An attempt puts its name there before it looks for a checkpoint, and looks whether it still stands before it does what others
believe: complete a checkpoint, publish. So a process that was cut off and still trains finds out before it misleads the
attempt that took its place.
"""

from collections.abc import Callable
from dataclasses import dataclass

from finetune_contract import RunConfig
from finetune_contract.wire import dumps, loads

from finetune_trainer.errors import ReportedError, UserError
from finetune_trainer.storage import Store

HOLDER_FILE = "holder.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The content of the file."""

    run_digest: str
    uid: str
    """Of the job: one that was deleted and applied again counts its attempts from 0 again."""
    attempt: int
    turn: int
    """Counts the attempts that ever held this destination: a later turn's checkpoints are newer."""


def take_over(store: Store, run: RunConfig, *, turns: Callable[[], int]) -> Holder:
    """Put this attempt's name at the destination. Only rank 0 calls it.

    `turns` counts those that the checkpoints know; it is asked where the file is gone, which else counts all of them.
    Raises ReportedError where a later attempt of the same job was here, or comes at the same moment.
    """
    text = store.read_text(HOLDER_FILE)
    found = parsed_holder(text)
    if found is not None and (found.run_digest, found.uid) == (run.run_digest, run.uid) and found.attempt > run.attempt:
        raise _overtaken(found, run)
    before = found.turn if found is not None else turns()
    ours = Holder(run_digest=run.run_digest, uid=run.uid, attempt=run.attempt, turn=before + 1)
    written = dumps(ours)
    done = store.create_text(HOLDER_FILE, written) if text is None else store.replace_text(HOLDER_FILE, text, written)
    if not done:
        raise ReportedError(
            "TrainerError", f"another process took over {store.uri} at the same time; the next attempt starts over"
        )
    return ours


def refuse_if_overtaken(store: Store, run: RunConfig, ours: Holder | None) -> None:
    """Raise where somebody else holds the destination by now. A file that was removed names nobody else."""
    found = parsed_holder(store.read_text(HOLDER_FILE))
    if found is None or found == ours:
        return
    if found.run_digest == run.run_digest:
        raise _overtaken(found, run)
    raise UserError(
        "OutputOccupied",
        f"another run ({found.run_digest[:19]}) has taken over the checkpoint destination {store.uri} from this run "
        f"({run.run_digest[:19]}): set a different checkpoint.destination for each job",
    )


def _overtaken(found: Holder, run: RunConfig) -> ReportedError:
    whose = "" if found.uid == run.uid else f" of the re-created job (uid {found.uid})"
    message = f"attempt {found.attempt + 1}{whose} has taken over from attempt {run.attempt + 1}"
    return ReportedError("TrainerError", message)


def parsed_holder(text: str | None) -> Holder | None:
    """Return the content of the file; None where there is none, or one that cannot be read."""
    try:
        return loads(Holder, text) if text is not None else None
    except ValueError:
        return None
