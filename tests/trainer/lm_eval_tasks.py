"""Folders with tasks of lm-eval as people write them, with their data, for the trainer's tests."""

import json
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from finetune_contract import LmEval, Location, Metric

from tests.servers.lm_eval import packages
from tests.trainer.tiny import WORDS

LM_EVAL = [
    pytest.mark.trainer,
    pytest.mark.lm_eval,
    pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed in v6:FutureWarning"),
]
"""Marks of the modules that need the library."""

CHOICES = {
    "task": "echo_choice",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "choice.jsonl"}},
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "Text: {{text}}\nLast word:",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "answer",
    "metric_list": [
        {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        {"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True},
    ],
}
"""As the guide of lm-eval has it: a column with a list of choices, and one with the number of the right one."""

WRITTEN = {
    "task": "echo_written",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"train": "shots.jsonl", "test": "written.jsonl"}},
    "training_split": "train",
    "test_split": "test",
    "num_fewshot": 2,
    "output_type": "generate_until",
    "doc_to_text": "Text: {{text}}\nLast word:",
    "doc_to_target": "{{word}}",
    "generation_kwargs": {"until": ["\n", "e"], "max_gen_toks": 12, "do_sample": False},
    "filter_list": [
        {
            "name": "first-word",
            "filter": [{"function": "regex", "regex_pattern": "(\\w+)"}, {"function": "take_first"}],
        },
        {"name": "as-said", "filter": [{"function": "take_first"}]},
    ],
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True, "ignore_case": True}],
}


def task_folder(folder: Path, *tasks: dict[str, Any], documents: int = 24, **more: str) -> Path:
    """Write task files, and the data that those above name; `more` are files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    for task in tasks:
        (folder / f"{task['task']}.yaml").write_text(yaml.safe_dump(task, sort_keys=False))
    rng = random.Random(3)
    texts = [rng.choices(WORDS, k=rng.randint(2, 6)) for _ in range(documents + 8)]
    choices = []
    for words in texts:
        other = rng.sample([word for word in WORDS if word != words[-1]], 3)
        place = rng.randrange(4)
        choices.append([*other[:place], words[-1], *other[place:]])
    rows = [
        {"text": " ".join(words), "word": words[-1], "choices": each, "answer": each.index(words[-1])}
        for words, each in zip(texts, choices, strict=True)
    ]
    jsonl(folder / "choice.jsonl", rows[:documents])
    jsonl(folder / "written.jsonl", rows[:documents])
    jsonl(folder / "shots.jsonl", rows[documents:])
    for name, text in more.items():
        (folder / name).write_text(text)
    return folder


def jsonl(file: Path, rows: list[dict[str, Any]]) -> Path:
    """Write one JSON object a line."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def a_metric(folder: Path, task: str, name: str = "task", **asked: Any) -> Metric:
    """A metric of type lmEval."""
    return Metric(
        name=name, type="lmEval", lm_eval=LmEval(location=Location(uri=f"file://{folder}"), task=task, **asked)
    )


@contextmanager
def lm_eval_on_path() -> Iterator[Path]:
    """Let this process import the library."""
    folder = packages()
    sys.path.append(str(folder))
    try:
        yield folder
    finally:
        sys.path.remove(str(folder))
