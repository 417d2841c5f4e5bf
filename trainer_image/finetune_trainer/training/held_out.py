"""The held-out measurements of a run: base before training, the model on its way, early stopping, the best slot.

Given to the trainer by train, before saver.Saver, which uploads the state that is written here.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from finetune_contract import RunConfig
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from finetune_trainer.data import PreparedData
from finetune_trainer.evaluation.questions import Question
from finetune_trainer.evaluation.results import Said
from finetune_trainer.evaluation.tasks.asked import Document
from finetune_trainer.publishing.artifacts import drop_pickles
from finetune_trainer.runtime import ranks
from finetune_trainer.runtime.progress import say
from finetune_trainer.training import evaluate
from finetune_trainer.training.asking import Interview
from finetune_trainer.training.bench import Bench, Loop
from finetune_trainer.training.callbacks import staged_folder
from finetune_trainer.training.divergence import refuse_infinite
from finetune_trainer.training.evaluate import Answers, Measurement, Row, Rows
from finetune_trainer.training.patience import STATE_FILE
from finetune_trainer.training.saver import report_newest
from finetune_trainer.training.tasks import Tasks, without_prompts
from finetune_trainer.training.tracking import Tracking


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """What the models are measured on."""

    rows: Rows
    general: list[Row]
    prompts: tuple[list[int], ...]
    asked: list[Question]
    """For the metrics."""
    tasks: Tasks
    stops: tuple[int, ...]
    """Tokens that end an answer."""


class HeldOut(TrainerCallback):
    """Measure the base model before the first step and the tuned one on its way."""

    def __init__(self, loop: Loop, questions: Questions, tracking: Tracking) -> None:
        self.loop = loop
        self.tracking = tracking
        self.questions = questions

    def keep_going(self) -> bool:
        """Beat, see to what is being uploaded, and ask all ranks whether one was told to stop: measurements are dropped then."""
        self.loop.bench.heartbeat.beat()
        asked, furthest = ranks.largest([float(self.loop.bench.interrupt.asked), self.loop.uploads.look()])
        if self.loop.uploads.advance(furthest):
            report_newest(self.loop)
        if self.loop.uploads.ended and self.loop.uploads.current is None and not asked:
            self.loop.bench.interrupt.must_save = False  # SIGTERM need not wait for the answer to a question
        return not asked

    def ask(self) -> Answers:
        """Put all questions to the trainer's model as it is now."""
        questions, evaluation = self.questions, self.loop.run.evaluation
        held_out = self._measure(questions.rows)
        general = self._measure(questions.general) if held_out is not None else None
        samples = self._interview(1, evaluation.max_new_tokens).generate(questions.prompts)
        interview = self._interview(self.loop.run.layout.answers_at_once, evaluation.max_answer_tokens)
        said = interview.answers(questions.asked, evaluation)
        tasks = questions.tasks.ask(interview) if said is not None else None
        return Answers(
            held_out=held_out, general=general, samples=tuple(one.text for one in samples or ()), said=said or (),
            tasks=tasks or (),
        )  # fmt: skip

    def _interview(self, at_once: int, max_new_tokens: int) -> Interview:
        return Interview(
            trainer=self.loop.trainer, at_once=at_once, max_new_tokens=max_new_tokens, stops=self.questions.stops,
            row_tokens=self.loop.run.training.sequence_length,            beat=self.loop.bench.heartbeat.beat, keep_going=self.keep_going,
        )  # fmt: skip

    def _measure(self, rows: Rows) -> Measurement | None:
        return evaluate.measure(self.loop.trainer, rows, keep_going=self.keep_going) if len(rows) else None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Measure the base model, once per run; then catch up on an evaluation that a preemption cut short."""
        self.measure_base(state)
        self.loop.bench.reporter.phase("training")
        if self._is_due(state.global_step) and self.loop.patience.evaluated_step < state.global_step:
            self._evaluate(args, state, control)

    def measure_base(self, state: TrainerState) -> None:
        """Measure the base model, unless an earlier attempt has."""
        self.loop.base = self._known_baseline()
        if self.loop.base is None and self.loop.run.evaluation.baseline and self._holds_base(state):
            self.loop.bench.reporter.phase("baseline")
            self.loop.base = self._ask_base()
            if self.keep_going():  # else it is not whole
                kept = replace(self.loop.base, tasks=without_prompts(self.loop.base.tasks))
                self.loop.checkpoints.write_baseline(asdict(kept))

    def _holds_base(self, state: TrainerState) -> bool:
        return self.loop.run.method != "full" or state.global_step == 0

    def _ask_base(self) -> Answers:
        if self.loop.run.method == "full":
            return self.ask()
        with evaluate.without_adapter(self.loop.trainer):
            return self.ask()

    def _known_baseline(self) -> Answers | None:
        data = self.loop.checkpoints.read_baseline() if self.loop.run.evaluation.baseline else None
        if data is None:
            return None
        held_out, general = (Measurement(**data[name]) if data[name] else None for name in ("held_out", "general"))
        said = tuple(Said(**one) for one in data.get("said", ()))
        tasks = tuple(tuple(Document(**one) for one in documents) for documents in data.get("tasks", ()))
        return Answers(held_out=held_out, general=general, samples=tuple(data["samples"]), said=said, tasks=tasks)

    def _is_due(self, step: int) -> bool:
        every = self.loop.run.evaluation.every_steps
        last = step == self.loop.run.training.max_steps and not self.loop.run.training.early_stopping_patience
        # The last step is measured anyway, unless early stopping has to compare it.
        return bool(every) and step > 0 and step % every == 0 and not last and len(self.questions.rows) > 0

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Evaluate in the plan's cadence; stop when it has not improved for long enough."""
        if self._is_due(state.global_step):
            with self.loop.clock.pause():
                self._evaluate(args, state, control)

    def _evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl) -> None:
        self.loop.bench.reporter.phase("evaluating")
        measured = self._measure(self.questions.rows)
        if measured is not None:
            figures = {"eval_loss": measured.loss, "eval_token_accuracy": measured.token_accuracy}
            self.loop.bench.reporter.record(state.global_step, figures)
            state.log_history.append({"step": state.global_step, **figures})  # checkpoints keep it
            self.tracking.on_log(
                args, state, control, figures
            )  # the trainer's own on_log would take its turn for this one
            refuse_infinite(
                "the evaluation loss", measured.loss, state.global_step
            )  # before such weights are kept as the best
            self._judge(args, state, control, measured.loss)
            self.loop.bench.reporter.update(eval_loss=round(measured.loss, 6))
        self.loop.bench.reporter.phase("training")

    def _judge(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, loss: float) -> None:
        training, step, before = self.loop.run.training, state.global_step, self.loop.patience
        after = before.after(
            step, loss, min_delta=training.early_stopping_min_delta, patience=training.early_stopping_patience
        )
        if training.early_stopping_patience and after.best_loss != before.best_loss:
            after = replace(after, best_slot=self._save_best(args, step))
        if after.stopped:
            say(
                f"early stopping at step {step}: {after.worse} evaluations without improvement over {after.best_loss:.4f}"
            )
            control.should_training_stop = True
        self.loop.patience = after

    def _save_best(self, args: TrainingArguments, step: int) -> str:
        staged = Path(args.output_dir) / f"best-{step}"
        with self.loop.bench.heartbeat.busy():
            self.loop.trainer.save_model(str(staged))
            drop_pickles(staged)
            return self.loop.uploads.begin_best(staged, step)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Add the patience to the staged checkpoint."""
        if ranks.rank() == 0:
            (staged_folder(args, state) / STATE_FILE).write_text(json.dumps(asdict(self.loop.patience)))


def questions(run: RunConfig, data: PreparedData, tokenizer: Any, bench: Bench) -> Questions:
    """Prepare what both models are measured on."""
    make: Callable[[str], list[int]] = lambda prompt: evaluate.prompt_ids(  # noqa: E731 - one use, below
        prompt, tokenizer, system=run.chat.system_prompt, conversational=data.conversational
    )
    return Questions(
        rows=data.evaluation if data.evaluation is not None else [],
        general=evaluate.general_rows(tokenizer, sequence_length=run.training.sequence_length),
        prompts=tuple(make(prompt) for prompt in run.evaluation.prompts),
        asked=data.questions,
        tasks=Tasks(data.tasks, bench.workspace / "task-cache", bench.heartbeat),
        stops=data.stops,
    )
