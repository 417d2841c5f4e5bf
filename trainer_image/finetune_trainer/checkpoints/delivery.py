"""What the uploader does for a checkpoint: clear its place, deliver its files, mark it complete, remove older ones.

Each step may be repeated after a failure. None of them talks to the other processes of the run.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from finetune_contract import COMPLETE_MARKER
from finetune_contract.wire import dumps

from finetune_trainer.checkpoints.checkpoints import BEST_NAME, Checkpoints, Marker, holds_weights_alone
from finetune_trainer.checkpoints.digests import digests
from finetune_trainer.errors import ReportedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The files of one replica, as they left it."""

    files: dict[str, str]
    """Their sha256, by the path in the folder."""
    size_bytes: int


def clear(checkpoints: Checkpoints, name: str) -> None:
    """Remove what a deleted job of the same name left at this place: its marker would count for our files."""
    checkpoints.refuse_if_overtaken()
    checkpoints.store.delete(name)


def deliver(checkpoints: Checkpoints, staged: Path, name: str) -> Delivered:
    """Bring a staged folder to the destination. Raises ReportedError where a later attempt has taken over."""
    checkpoints.refuse_if_overtaken()
    files = digests(staged)
    if not files:
        raise ReportedError("TrainerError", f"the staged folder {staged} of {name} is gone: nothing can be stored")
    delivered = Delivered(files=files, size_bytes=sum((staged / path).stat().st_size for path in files))
    if not _moved(staged, checkpoints.store.local_folder(), name):
        checkpoints.store.upload(staged, name)
        shutil.rmtree(staged)
    return delivered


def _moved(staged: Path, local: Path | None, name: str) -> bool:
    """Move the folder where destination and disk are one file system and no other replica was first; tell whether that worked."""
    if local is None:
        return False
    try:
        staged.rename(local / name)
    except OSError:  # whatever it was: what copying says of it is worded
        return False
    return True


def mark(checkpoints: Checkpoints, name: str, step: int, delivered: Delivered) -> None:
    """Write COMPLETE. Raises ReportedError where a later attempt has taken over."""
    run, holder = checkpoints.run, checkpoints.holder
    stage = 0 if holds_weights_alone(delivered.files) else run.layout.zero_stage
    marker = Marker(
        run_digest=run.run_digest, attempt=run.attempt, step=step, size_bytes=delivered.size_bytes,
        world_size=run.layout.world_size, zero_stage=stage, turn=holder.turn if holder else 0,
        files=delivered.files,
    )  # fmt: skip
    checkpoints.refuse_if_overtaken()  # the last moment: from then on a successor may have removed some of the files
    checkpoints.store.write_text(f"{name}/{COMPLETE_MARKER}", dumps(marker))


def prune(checkpoints: Checkpoints, *, best: str) -> None:
    """Keep the newest `keep` checkpoints and the best slot that the newest one names; remove what is older."""
    store, run = checkpoints.store, checkpoints.run
    for checkpoint in checkpoints.complete()[: -run.checkpoint.keep]:
        # The marker goes first: a half-removed checkpoint must not look whole.
        store.delete(f"{checkpoint.name}/{COMPLETE_MARKER}")
        store.delete(checkpoint.name)
    for name, marker in checkpoints.markers(BEST_NAME).items():
        if name != best and marker is not None and marker.run_digest == run.run_digest:
            store.delete(name)
