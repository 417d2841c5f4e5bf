"""The held-out measurements of a run: base before training, the model on its way, early stopping, the best slot.

Given to the trainer by train, before callbacks.Saver, which publishes the state that is written here.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from finetune_contract import RunConfig
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTTrainer

from finetune_trainer.checkpoints.checkpoints import Checkpoints
from finetune_trainer.errors import UserError
from finetune_trainer.publishing.artifacts import drop_pickles
from finetune_trainer.runtime import ranks
from finetune_trainer.runtime.heartbeat import Heartbeat
from finetune_trainer.runtime.interrupt import Interrupt
from finetune_trainer.runtime.progress import Reporter, StepClock, say
from finetune_trainer.training import evaluate
from finetune_trainer.training.callbacks import DIVERGENCE_REMEDY, Saver, staged_folder
from finetune_trainer.training.evaluate import Measurement, Row, Rows

STATE_FILE = "evaluation-state.json"


def refuse_divergence(step: int, loss: float) -> None:
    """Raise UserError(LossDiverged) in every process, before such weights are kept as the best ones."""
    if not math.isfinite(loss):
        raise UserError(
            "LossDiverged",
            f"the evaluation loss became {loss} at step {step}: {DIVERGENCE_REMEDY}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What was measured of one model: on the held-out rows, on the general text, on the prompts."""

    held_out: Measurement | None
    general: Measurement | None
    samples: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How early stopping stands. Part of each checkpoint, so that a preempted run stops where the other would."""

    evaluated_step: int = -1
    best_loss: float | None = None
    best_slot: str = ""
    worse: int = 0
    stopped: bool = False

    def after(self, step: int, loss: float, *, min_delta: float, patience: int) -> "Patience":
        """Return how it stands after one more evaluation; `best_slot` is the caller's to fill in."""
        if self.best_loss is None or loss < self.best_loss - min_delta:
            return replace(self, evaluated_step=step, best_loss=loss, worse=0)
        worse = self.worse + 1
        return replace(self, evaluated_step=step, worse=worse, stopped=bool(patience) and worse >= patience)


def read_patience(folder: Path | None) -> Patience:
    """Return the state that a checkpoint holds; a fresh one without a checkpoint."""
    path = folder / STATE_FILE if folder is not None else None
    return Patience(**json.loads(path.read_text())) if path is not None and path.is_file() else Patience()


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """What the models are measured on."""

    rows: Rows
    general: list[Row]
    prompts: tuple[list[int], ...]
    max_new_tokens: int


class HeldOut(TrainerCallback):
    """Measure the base model before the first step and the tuned one on its way."""

    trainer: SFTTrainer

    def __init__(
        self, run: RunConfig, questions: Questions, checkpoints: Checkpoints, saver: Saver, interrupt: Interrupt,
        patience: Patience,
    ) -> None:  # fmt: skip
        self.run = run
        self.questions = questions
        self.checkpoints = checkpoints
        self.saver = saver
        self.interrupt = interrupt
        self.patience = patience
        self.base: Answers | None = None
        saver.best = patience.best_slot

    @property
    def _reporter(self) -> Reporter:
        return self.saver.reporter

    @property
    def _clock(self) -> StepClock:
        return self.saver.clock

    @property
    def _heartbeat(self) -> Heartbeat:
        return self.saver.heartbeat

    def keep_going(self) -> bool:
        """Beat, and ask all ranks whether one was told to stop: measurements are dropped then, training is not."""
        self._heartbeat.beat()
        return not ranks.largest([float(self.interrupt.asked)])[0]

    def ask(self, *, with_samples: bool = True) -> Answers:
        """Put all questions to the trainer's model as it is now."""
        questions = self.questions
        held_out = self._measure(questions.rows)
        general = self._measure(questions.general) if held_out is not None else None
        prompts = questions.prompts if with_samples else ()
        samples = evaluate.answers(
            self.trainer, prompts, max_new_tokens=questions.max_new_tokens, keep_going=self.keep_going
        )
        return Answers(held_out=held_out, general=general, samples=samples)

    def _measure(self, rows: Rows) -> Measurement | None:
        return evaluate.measure(self.trainer, rows, keep_going=self.keep_going) if len(rows) else None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Measure the base model, once per run; then catch up on an evaluation that a preemption cut short."""
        self.base = self._known_baseline()
        if self.base is None and self.run.evaluation.baseline and self._holds_base(state):
            self._reporter.phase("baseline")
            self.base = self._ask_base()
            self.checkpoints.write_baseline(asdict(self.base))
        self._reporter.phase("training")
        if self._is_due(state.global_step) and self.patience.evaluated_step < state.global_step:
            self._evaluate(args, state, control)

    def _holds_base(self, state: TrainerState) -> bool:
        return self.run.method != "full" or state.global_step == 0

    def _ask_base(self) -> Answers:
        if self.run.method == "full":
            return self.ask()
        with evaluate.without_adapter(self.trainer):
            return self.ask()

    def _known_baseline(self) -> Answers | None:
        data = self.checkpoints.read_baseline() if self.run.evaluation.baseline else None
        if data is None:
            return None
        held_out, general = (Measurement(**data[name]) if data[name] else None for name in ("held_out", "general"))
        return Answers(held_out=held_out, general=general, samples=tuple(data["samples"]))

    def _is_due(self, step: int) -> bool:
        every = self.run.evaluation.every_steps
        last = step == self.run.training.max_steps and not self.run.training.early_stopping_patience
        # The last step is measured anyway, unless early stopping has to compare it.
        return bool(every) and step > 0 and step % every == 0 and not last and len(self.questions.rows) > 0

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Evaluate in the plan's cadence; stop when it has not improved for long enough."""
        if self._is_due(state.global_step):
            with self._clock.pause():
                self._evaluate(args, state, control)

    def _evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl) -> None:
        self._reporter.phase("evaluating")
        measured = self._measure(self.questions.rows)
        if measured is not None:
            refuse_divergence(state.global_step, measured.loss)
            self._judge(args, state, control, measured.loss)
            self._reporter.update(eval_loss=round(measured.loss, 6))
        self._reporter.phase("training")

    def _judge(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, loss: float) -> None:
        training, step, before = self.run.training, state.global_step, self.patience
        after = before.after(
            step, loss, min_delta=training.early_stopping_min_delta, patience=training.early_stopping_patience
        )
        if training.early_stopping_patience and after.best_loss != before.best_loss:
            after = replace(after, best_slot=self._save_best(args, step))
        if after.stopped:
            say(
                f"early stopping at step {step}: {after.worse} evaluations without improvement on {after.best_loss:.4f}"
            )
            control.should_training_stop = True
        self.patience = after
        self.saver.best = after.best_slot

    def _save_best(self, args: TrainingArguments, step: int) -> str:
        staged = Path(args.output_dir) / f"best-{step}"
        with self._heartbeat.busy():
            self.trainer.save_model(str(staged))
            drop_pickles(staged)
            return self.checkpoints.publish_best(staged, step)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Add the patience to the staged checkpoint."""
        if ranks.rank() == 0:
            (staged_folder(args, state) / STATE_FILE).write_text(json.dumps(asdict(self.patience)))


def questions(run: RunConfig, rows: Rows | None, tokenizer: Any, *, conversational: bool) -> Questions:
    """Prepare what both models are measured on."""
    make: Callable[[str], list[int]] = lambda prompt: evaluate.prompt_ids(  # noqa: E731 - one use, below
        prompt, tokenizer, system=run.chat.system_prompt, conversational=conversational
    )
    return Questions(
        rows=rows if rows is not None else [],
        general=evaluate.general_rows(tokenizer, sequence_length=run.training.sequence_length),
        prompts=tuple(make(prompt) for prompt in run.evaluation.prompts),
        max_new_tokens=run.evaluation.max_new_tokens,
    )
