"""A run that is built: a trainer and what belongs to it, and what the operator learns of it. Made by train; read by publish."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from finetune_contract import Outcome
from transformers import PreTrainedTokenizerBase
from trl import SFTTrainer

from finetune_trainer.data import PreparedData
from finetune_trainer.training.bench import Bench, Loop
from finetune_trainer.training.held_out import HeldOut
from finetune_trainer.training.tracking import Tracking


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A trainer and what belongs to it."""

    loop: Loop
    tokenizer: PreTrainedTokenizerBase
    rows: PreparedData
    held_out: HeldOut
    tracking: Tracking
    resumed: Path | None
    base: Path
    """Where the base model's files are."""
    steps: int


def measured(session: Session, bench: Bench, outcome: Outcome) -> Outcome:
    """Add what the operator learns from each attempt: memory, speed, the newest checkpoint."""
    checkpoints, clock = session.loop.checkpoints, session.loop.clock
    step, store = checkpoints.newest_step, checkpoints.store
    name = checkpoints.name_of(step)
    return replace(
        outcome,
        checkpoint_step=step,
        checkpoint_uri=f"{store.uri.rstrip('/')}/{name}" if name else "",
        peak_memory_gib=round(bench.reporter.peak_gib, 3),
        peak_reserved_gib=bench.reporter.peak_reserved_gib,
        loading_peak_gib=round(session.loop.loading_peak_gib, 3),
        **asdict(session.loop.speed),
        training_seconds=round(clock.seconds, 1),
        final_loss=outcome.final_loss if outcome.final_loss is not None else last_loss(session.loop.trainer),
    )


def last_loss(trainer: SFTTrainer) -> float | None:
    """Return the training loss of the last step, also of one that an earlier attempt made."""
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return losses[-1] if losses else None
