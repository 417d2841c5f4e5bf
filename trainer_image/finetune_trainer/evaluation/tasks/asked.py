"""What a task of lm-eval asks a model, and what came of it: plain data. Written by data.tasks, read by training.tasks."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

TASKS_FOLDER, TASK_FILE, DATA_FOLDER = "tasks", "task.json", "data"
"""Below the prepared rows: `tasks/0/task.json` and its data in `tasks/0/data`, and so on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task that was checked: plain values, nothing that runs, data files relative to its folder."""

    metric_name: str
    """As `Metric.name`."""
    config: Mapping[str, Any]
    """As lm-eval reads it, with only the metric and the filter that count."""
    metric: str
    filter: str
    limit: int
    chat_template: bool
    system_prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """A text whose end is scored by its likelihood."""

    tokens: tuple[int, ...]
    scored: int
    """So many tokens at its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A text that is continued by generating."""

    tokens: tuple[int, ...]
    max_new_tokens: int
    until: tuple[str, ...]
    """Texts that end the answer."""


class Answerer(Protocol):
    """A model, or what stands for one."""

    def likelihoods(self, texts: Sequence[Continuation]) -> list[tuple[float, bool]]:
        """Return the log-probability of each end, and whether it is what the model would have said."""
        ...

    def completions(self, prompts: Sequence[Prompt]) -> list[str]:
        """Return what each prompt is continued with, always by the likeliest token."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document of a task: what was asked, answered, and what the task says of it."""

    prompt: str
    reference: str
    answer: str
    score: float


def write_task(folder: Path, task: Task) -> None:
    """Write a task beside its data."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TASK_FILE).write_text(json.dumps(asdict(task)), encoding="utf-8")


def read_tasks(folder: Path) -> dict[Path, Task]:
    """Return the tasks beside prepared rows by their folders, in their order; none where there are none."""
    numbered = sorted((folder / TASKS_FOLDER).glob(f"*/{TASK_FILE}"), key=lambda path: int(path.parent.name))
    return {path.parent: Task(**json.loads(path.read_text(encoding="utf-8"))) for path in numbered}
