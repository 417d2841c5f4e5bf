"""The tasks of a run, written beside its prepared rows and asked once with nobody to answer: that finds what is wrong. Called by prepare.

Preflight runs this, and a trainer only where nothing is shared.
"""

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_contract import LmEval, Metric

from finetune_trainer.chat import Turns
from finetune_trainer.data.reading.nearest import did_you_mean, nearest
from finetune_trainer.data.request import DataRequest
from finetune_trainer.data.selection import HELD_OUT_FLOOR
from finetune_trainer.data.tasks.datasets import TaskData, task_data
from finetune_trainer.data.tasks.files import TaskFolder
from finetune_trainer.data.tasks.settings import chosen
from finetune_trainer.errors import ReportedError, UserError
from finetune_trainer.evaluation.tasks.asked import (
    DATA_FOLDER,
    TASKS_FOLDER,
    Continuation,
    Prompt,
    Task,
    write_task,
)
from finetune_trainer.evaluation.tasks.extra import check_installed

LARGEST_BYTES = 1 << 30
"""Of a task's data: it is kept beside the prepared rows, and read whole."""

SHOWN = 60
"""Characters of an answer in a message."""

SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSize:
    """What a task asks each model."""

    name: str
    documents: int
    answers: int
    """That are generated."""
    tokens: int
    """That are read."""
    longest: int
    """Tokens of the longest text, with its answer."""


class Counting:
    """Stands for a model: counts what it is asked, and says nothing."""

    def __init__(self) -> None:
        self.answers = self.tokens = self.longest = 0

    def likelihoods(self, texts: Sequence[Continuation]) -> list[tuple[float, bool]]:
        """Count the texts. Raises UserError for an answer without a token."""
        if any(not text.scored for text in texts):
            raise UserError("DatasetInvalid", "an answer of a document is empty, so it has no likelihood: correct it")
        self._count(len(text.tokens) for text in texts)
        return [(-1.0, False)] * len(texts)

    def completions(self, prompts: Sequence[Prompt]) -> list[str]:
        """Count the prompts, with room for their answers."""
        self.answers += len(prompts)
        self._count(len(prompt.tokens) for prompt in prompts)
        self.longest = max([self.longest, *(len(prompt.tokens) + prompt.max_new_tokens for prompt in prompts)])
        return [""] * len(prompts)

    def _count(self, lengths: Iterator[int]) -> None:
        counted = list(lengths)
        self.tokens += sum(counted)
        self.longest = max([self.longest, *counted])


def with_lm_eval(request: DataRequest) -> list[tuple[Metric, LmEval]]:
    """Return the metrics that are tasks of lm-eval."""
    return [(metric, metric.lm_eval) for metric in request.evaluation.metrics if metric.lm_eval is not None]


def prepare_tasks(request: DataRequest, turns: Turns, tokenizer: Any, folder: Path) -> tuple[TaskSize, ...]:
    """Write the tasks below the folder of prepared rows and return what they ask. Raises UserError in words of the job."""
    sizes = []
    for number, (metric, asked) in enumerate(with_lm_eval(request)):
        try:
            check_installed()
            place = folder / TASKS_FOLDER / str(number)
            sizes.append(
                _prepared(metric.name, asked, request, turns, tokenizer, place, folder.parent / "tasks" / str(number))
            )
        except UserError as problem:
            told = problem.message.replace("source or revision in spec.datasets", "lmEval.source or lmEval.revision")
            raise UserError(problem.reason, f"evaluation.metrics {metric.name}: {told}") from problem
    return tuple(sizes)


def _prepared(
    name: str, asked: LmEval, request: DataRequest, turns: Turns, tokenizer: Any, place: Path, scratch: Path
) -> TaskSize:
    if asked.chat_template and not turns.template:
        raise UserError(
            "InvalidSpec",
            "lmEval.prompts is chat, but the model has no chat template: use text, or set chat.template",
        )
    source = TaskFolder(asked)
    path, settings = source.task(asked.task)
    works = chosen(settings, asked, max_answer_tokens=request.evaluation.max_answer_tokens)
    data = task_data(source, path, works.settings)
    task = Task(
        metric_name=name,
        config=works.settings | data.settings,
        metric=works.metric,
        filter=works.filter,
        limit=asked.limit,
        chat_template=asked.chat_template,
        system_prompt=request.chat.system_prompt if asked.chat_template else "",
    )
    _bring(source, data, place / DATA_FOLDER, scratch)
    write_task(place, task)
    counted, documents = _tried(task, place, tokenizer, scratch / "cache")
    if documents < HELD_OUT_FLOOR and request.evaluation.gated:
        raise UserError(
            "DatasetTooSmall",
            f"evaluation.gate needs at least {HELD_OUT_FLOOR} documents, but the task has {documents}: add documents, raise lmEval.limit, "
            "or remove the metric",
        )
    return TaskSize(
        name=name, documents=documents, answers=counted.answers, tokens=counted.tokens, longest=counted.longest
    )


def _bring(source: TaskFolder, data: TaskData, into: Path, scratch: Path) -> None:
    """Copy the data of a task."""
    size = sum(source.files[path].size_bytes for path in data.files)
    if size > LARGEST_BYTES:
        raise UserError(
            "DatasetInvalid",
            f"the data of the task has {size / 2**30:.1f} GiB, but at most 1 GiB is read: keep only the documents that are asked about",
        )
    fetched = source.store.fetch(scratch / "fetched", data.files)
    for path in data.files:
        (into / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(fetched / path, into / path)


def _tried(task: Task, place: Path, tokenizer: Any, cache: Path) -> tuple[Counting, int]:
    """Ask nobody, as both models will be asked: return what was counted, and the number of documents."""
    from finetune_trainer.evaluation.tasks import library  # noqa: PLC0415 - the package is an extra

    if unknown := sorted(set(task.config) - library.FIELDS):
        meant = did_you_mean([nearest(unknown[0], library.FIELDS)])
        raise UserError(
            "DatasetInvalid", f"the task file has the unknown field {unknown[0]}: remove it, or correct its name{meant}"
        )
    counted = Counting()
    try:
        made = library.built(task, place, cache)
        wrong = library.wrong_choices(made, task.limit) if task.config["output_type"] == "multiple_choice" else []
        documents = library.asked(task, made, tokenizer, counted)
    except ReportedError:
        raise
    except Exception as error:  # a task may be wrong in any way, and the library says so in any way
        raise UserError("DatasetInvalid", _told(task, place, error)) from error
    if wrong:
        number, said = wrong[0]
        raise UserError(
            "DatasetInvalid",
            f"{len(wrong)} of {len(documents)} documents have an answer that is none of their choices (first document {number}: "
            f"{said[:SHOWN]}): correct doc_to_target or doc_to_choice",
        )
    return counted, len(documents)


def _told(task: Task, place: Path, error: Exception) -> str:
    """Say why a task cannot be asked."""
    text = " ".join(str(error).replace(f"{place / DATA_FOLDER}/", "").split())[:300].rstrip(".")
    name = type(error).__name__
    if name == "UndefinedError":
        return f"a template of the task uses a column that the documents do not have: {text}. Correct the template, or the data"
    if name == "SecurityError":
        return f"a template of the task does what templates may not do: {text}. Use filters and columns only"
    if name == "KeyError" and (split := _split_named(task, text)):
        field, wanted = split
        return f"{field} is {wanted}, but the data has no such split: correct it, or name the files of {wanted} in data_files"
    if isinstance(error, ValueError | AssertionError) and "ample" in text:
        return (
            f"num_fewshot is {task.config['num_fewshot']}, which is more examples than there are: lower it, or set fewshot_split to a "
            "split with more rows"
        )
    return f"lm-eval cannot ask it ({name}: {text}): correct the task file"


def _split_named(task: Task, text: str) -> tuple[str, str] | None:
    return next(
        (
            (field, str(task.config[field]))
            for field in SPLITS
            if task.config.get(field) and str(task.config[field]) in text
        ),
        None,
    )


def check_fit(sizes: Sequence[TaskSize], positions: int) -> None:
    """Raise UserError where a text is longer than the model reads: lm-eval would cut its beginning."""
    for size in sizes:
        if size.longest > positions:
            raise UserError(
                "DatasetInvalid",
                f"evaluation.metrics {size.name}: its longest text has {size.longest:,} tokens with the answer, but the model has "
                f"{positions:,} positions: lower num_fewshot or max_gen_toks in the task file, or leave long documents out",
            )


def tasks_digest(folder: Path) -> list[str]:
    """Return the digest of the tasks beside prepared rows; nothing where there are none."""
    files = sorted(path for path in (folder / TASKS_FOLDER).rglob("*") if path.is_file())
    told = [f"{path.relative_to(folder).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
    return [hashlib.sha256("\n".join(told).encode()).hexdigest()] if told else []
