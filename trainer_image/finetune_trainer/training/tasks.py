"""The trainer's model answers tasks of lm-eval, as it answers held-out rows. Called by held_out, in every process.

Each process builds the same requests, answers its share of the batches and gets all answers: sharded weights are gathered in step.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from finetune_contract import Evaluation

from finetune_trainer.evaluation.results import Judged, of_task
from finetune_trainer.evaluation.tasks.asked import Continuation, Document, Prompt, Task
from finetune_trainer.evaluation.tasks.extra import PACKAGE
from finetune_trainer.runtime.heartbeat import Heartbeat
from finetune_trainer.training.asking import Interview


class Stopped(Exception):
    """The run was asked to stop while a task was measured."""


class Answers:
    """A model that answers lm-eval through an interview."""

    def __init__(self, interview: Interview) -> None:
        self.interview = interview

    def likelihoods(self, texts: Sequence[Continuation]) -> list[tuple[float, bool]]:
        """Return the log-probability of each end, and whether it is what the model would have said. Raises Stopped."""
        found = self.interview.likelihoods(texts)
        if found is None:
            raise Stopped
        return found

    def completions(self, prompts: Sequence[Prompt]) -> list[str]:
        """Return what each prompt is continued with. Raises Stopped."""
        found = self.interview.completions(prompts)
        if found is None:
            raise Stopped
        return found


class Tasks:
    """The tasks of a run, read once and asked of both models."""

    def __init__(self, tasks: Mapping[Path, Task], cache: Path, heartbeat: Heartbeat) -> None:
        self.tasks, self._cache, self._heartbeat = tasks, cache, heartbeat
        self._made: list[Any] = []

    def ask(self, interview: Interview) -> tuple[tuple[Document, ...], ...] | None:
        """Return the documents of each task with the model's answers; None where the run was asked to stop on the way."""
        if not self.tasks:
            return ()
        from finetune_trainer.evaluation.tasks import library  # noqa: PLC0415 - the package is an extra

        if not self._made:
            with self._heartbeat.busy():
                self._made = [library.built(task, place, self._cache) for place, task in self.tasks.items()]
        try:
            return tuple(
                library.asked(task, made, interview.trainer.processing_class, Answers(interview))
                for task, made in zip(self.tasks.values(), self._made, strict=True)
            )
        except Stopped:
            return None


def judged_tasks(
    evaluation: Evaluation, tasks: Mapping[Path, Task], base: Sequence[Sequence[Document]],
    tuned: Sequence[Sequence[Document]], *, seed: int,
) -> Iterator[Judged]:  # fmt: skip
    """Yield what each task says of both models; nothing where the tuned model was not asked."""
    metrics = [metric for metric in evaluation.metrics if metric.lm_eval is not None] if tuned else []
    for number, (metric, task) in enumerate(zip(metrics, tasks.values(), strict=True)):
        of_base = base[number] if base else ()
        details = {
            "task": task.config["task"],
            "taskMetric": f"{task.metric},{task.filter}",
            "library": f"lm-eval {version(PACKAGE)}",
        }
        yield of_task(metric, of_base, tuned[number], seed=seed, details=details)


def without_prompts(asked: Sequence[Sequence[Document]]) -> tuple[tuple[Document, ...], ...]:
    """Return documents as they are kept beside a checkpoint: prompts are the same for both models, and long."""
    return tuple(tuple(replace(document, prompt="") for document in documents) for documents in asked)
