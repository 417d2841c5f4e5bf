"""One run, top to bottom: read, build, measure the base, train, measure again, publish. Called by worker in every process."""

import contextlib
from pathlib import Path
from typing import Any

from datasets import Dataset
from finetune_contract import Outcome, RunConfig
from torch.utils.serialization import config as serialization
from transformers.trainer_callback import PrinterCallback

from finetune_trainer.chat.stops import stop_token_ids
from finetune_trainer.checkpoints.checkpoints import Checkpoints
from finetune_trainer.checkpoints.uploads import Uploads
from finetune_trainer.data import PreparedData, training_rows
from finetune_trainer.errors import ReportedError
from finetune_trainer.evaluation.record import FOLDER as RECORD_FOLDER
from finetune_trainer.evaluation.record import write_history
from finetune_trainer.model import load as model
from finetune_trainer.model import varlen
from finetune_trainer.model.precision import Computation, computation, float32_adapters, leave_casts_to_autocast
from finetune_trainer.model.saved import with_weights
from finetune_trainer.publishing import artifacts
from finetune_trainer.runtime import host_optimizer, ranks
from finetune_trainer.runtime.progress import say
from finetune_trainer.storage import Role, fetch_model, open_location
from finetune_trainer.training.bench import Bench, Loop
from finetune_trainer.training.best_weights import put_back
from finetune_trainer.training.callbacks import AdaLoraSchedule, Reports
from finetune_trainer.training.evaluate import Answers
from finetune_trainer.training.held_out import HeldOut, questions
from finetune_trainer.training.measured import compared, final_figures, record
from finetune_trainer.training.patience import read_patience
from finetune_trainer.training.publish import publish
from finetune_trainer.training.refusals import refuse_other_sharding, refuse_senseless
from finetune_trainer.training.row_order import row_order
from finetune_trainer.training.saver import Saver, finish, report_newest
from finetune_trainer.training.session import Session, measured
from finetune_trainer.training.settings import batch_arithmetic, trainer_settings
from finetune_trainer.training.tracking import Tracking
from finetune_trainer.training.trainer import Trainer, taken_whole


def train(run: RunConfig, bench: Bench) -> Outcome:
    """Make the run: from its last complete checkpoint to published artifacts, or to a checkpoint when asked to stop."""
    bench.reporter.phase("loading")
    if (done := artifacts.already_published(open_location(run.output, Role.OUTPUT), run.run_digest)) is not None:
        return done
    with bench.heartbeat.busy():
        session = prepare(run, bench)
    return carry_out(run, bench, session)


def carry_out(run: RunConfig, bench: Bench, session: Session) -> Outcome:
    """Train, measure, publish. Callbacks measure the base, report, evaluate and save on the way."""
    loop = session.loop
    bench.heartbeat.keep_beating()
    try:
        loop.trainer.train(resume_from_checkpoint=str(session.resumed) if session.resumed is not None else None)
        loop.uploads.ended = True
        tuned = None if is_asked_to_stop(loop) else measure(bench, session)
        with bench.heartbeat.busy():
            settle(loop)
    except Exception:
        bring_in(loop)
        raise
    finally:
        loop.uploads.close()
    if tuned is None or is_asked_to_stop(loop):
        session.tracking.finish({})
        return preempted(session, bench)
    return conclude(run, bench, session, tuned)


def is_asked_to_stop(loop: Loop) -> bool:
    """Tell whether any process was. Every process calls it."""
    return bool(ranks.largest([float(loop.bench.interrupt.asked)])[0])


def measure(bench: Bench, session: Session) -> Answers:
    """Put all questions to the model, while the last checkpoint is on its way."""
    bench.reporter.phase("evaluating")
    with bench.heartbeat.busy():
        put_back(session.loop)
    return session.held_out.ask()


def settle(loop: Loop) -> None:
    """Wait until the last step is stored: from then on SIGTERM ends a process at once, for there is nothing to lose."""
    if loop.uploads.current is not None:
        say("waiting until the last checkpoint is stored")
    finish(loop)
    ranks.wait_for_all()  # transformers lists the staging folder once more, in every process
    loop.checkpoints.clear_staging()
    loop.bench.interrupt.must_save = False


def conclude(run: RunConfig, bench: Bench, session: Session, tuned: Answers) -> Outcome:
    """Compare the model with its base, and publish it."""
    loop = session.loop
    with bench.heartbeat.busy():
        found = compared(run, loop.base, tuned, session.rows, session.tokenizer)
    if ranks.rank() == 0:
        record(
            bench.workspace / "publish" / RECORD_FOLDER, found, loop.base, tuned, data=session.rows,
            tokenizer=session.tokenizer,
        )  # fmt: skip
        write_history(bench.workspace / "publish" / RECORD_FOLDER, loop.trainer.state.log_history)
        session.tracking.finish(final_figures(found), bench.workspace / "publish" / RECORD_FOLDER)

    bench.reporter.phase("publishing")
    return publish(run, bench, session, found)


def bring_in(loop: Loop) -> None:
    """Complete the checkpoints that are on their way when the run fails. Several processes could not agree on it any more."""
    if ranks.world_size() == 1:
        with loop.bench.heartbeat.busy(), contextlib.suppress(ReportedError):
            loop.uploads.finish()
        report_newest(loop)


def prepare(run: RunConfig, bench: Bench) -> Session:
    """Fetch and build everything that training needs; nothing is trained or measured yet."""
    refuse_senseless(run)
    # What a resume reads is mapped: read, the optimizer's states would be in host memory, 8 bytes for each weight.
    serialization.load.mmap = True
    base = fetch_model(run.model, bench.workspace / "model")
    tokenizer = model.load_tokenizer(base, run)
    rows = training_rows(run, tokenizer)
    if run.combine is not None:  # the merged adapter lies there already
        rows = rows.stopping_also_at(stop_token_ids(bench.workspace / "adapter"))
    checkpoints = Checkpoints(
        open_location(run.checkpoint.location, Role.CHECKPOINT), run, scratch=bench.workspace / "checkpoints"
    )
    numbers = computation(run.method, run.training.precision, device=bench.device)
    if run.combine is None:
        say(batch_arithmetic(run, rows=pass_rows(rows)))
    settings = trainer_settings(
        run, numbers, folder=checkpoints.staging(), steps=run.training.max_steps,
        end_to_end=rows.packed or varlen.serves(run.layout, numbers.device),
    )  # fmt: skip
    resumed = take_up(checkpoints, bench)  # the settings made the processes known to each other: they agree on one
    patience = read_patience(resumed)
    settings.max_steps = steps = patience.evaluated_step if patience.stopped else run.training.max_steps
    if run.layout.offload != "none":
        level = host_optimizer.provide()
        say(f"AdamW on the host: {f'compiled for {level}' if level else 'this Pod compiles it, which takes minutes'}")
    built, adapter = build(run, numbers, base, taken_whole(run, resumed), bench)

    asked = questions(run, rows, tokenizer, bench)
    loop = Loop(
        run=run, bench=bench, computation=numbers, stored=model.stored_dtype(base), checkpoints=checkpoints,
        uploads=Uploads(checkpoints), patience=patience,
    )  # fmt: skip
    tracking = Tracking(run, bench)
    held_out = HeldOut(loop, asked, tracking)
    adalora = [AdaLoraSchedule(resumed=resumed)] if run.lora is not None and run.lora.variant == "adalora" else []
    loop.trainer = trainer = Trainer(
        model=built,
        args=settings,
        train_dataset=ordered(run, rows.train, steps=steps),
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=[Reports(loop, rows=pass_rows(rows)), *adalora, tracking, held_out, Saver(loop)],
    )
    trainer.remove_callback(PrinterCallback)  # progress lines say it all
    # TRL computes the loss of every model itself. Asked of the class (Gemma 4 says no), each micro batch would have its own mean.
    trainer.model_accepts_loss_kwargs = True
    if run.lora is not None and run.layout.zero_stage == 0:
        float32_adapters(trainer.model)
        if numbers.autocast:
            leave_casts_to_autocast(trainer.model)
    refuse_other_sharding(run, trainer)
    if run.combine is None:
        trained, parameters = model.trainable_parameters(trainer.model)
        say(f"{trained:,} of {parameters:,} parameters are trained")
    return Session(
        loop=loop, tokenizer=tokenizer, rows=rows, held_out=held_out, tracking=tracking, resumed=resumed,
        base=base, steps=steps,
    )  # fmt: skip


def build(run: RunConfig, numbers: Computation, base: Path, saved: Path | None, bench: Bench) -> tuple[Any, Any]:
    """Return what the trainer takes: the model, and the description of an adapter that it adds. `saved` is built in."""
    if saved is not None and run.method == "full":
        base = with_weights(base, saved, bench.workspace / f"resumed-{ranks.rank()}")
    loaded = model.base_model(base, run, numbers)
    if saved is not None and run.method != "full":
        return model.with_initial_adapter(loaded, saved, run), None
    return model.with_adapter(loaded, run, bench.workspace / "adapter")


def take_up(checkpoints: Checkpoints, bench: Bench) -> Path | None:
    """Find the checkpoint to go on from, the same for every process."""
    found = checkpoints.resume()
    if found is None:
        return None
    checkpoint, folder = found
    say(f"resuming from {checkpoint.name}")
    bench.reporter.update(step=checkpoint.step, checkpoint_step=checkpoint.step, first_step=checkpoint.step)
    return folder


def ordered(run: RunConfig, rows: Any, *, steps: int) -> Any:
    """Lay the rows out in the order in which the steps see them. Streamed rows come in the order of their stream."""
    if not isinstance(rows, Dataset):
        return rows
    order = row_order(len(rows), steps=steps, global_batch_size=run.training.global_batch_size, seed=run.training.seed)
    return rows.select(order)


def pass_rows(rows: PreparedData) -> int:
    """Return how many rows one pass has: packed rows where they are packed."""
    return len(rows.train) if isinstance(rows.train, Dataset) else rows.examples


def preempted(session: Session, bench: Bench) -> Outcome:
    """Describe a run that was asked to stop and has saved its state."""
    state, newest = session.loop.trainer.state, session.loop.checkpoints.newest_step
    return measured(
        session,
        bench,
        Outcome(
            outcome="Preempted",
            reason="Preempted",
            message=f"asked to stop at step {state.global_step} of {session.steps}; checkpoint of step {newest} is complete",
            step=state.global_step,
        ),
    )
