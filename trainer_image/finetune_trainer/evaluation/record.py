"""What stands beside the result so that nobody must trust a figure: every answer with its scores, every step. Called by measured, train."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_contract.wire import to_wire

from finetune_trainer.evaluation.questions import HELD_OUT, Question
from finetune_trainer.evaluation.results import Judged, Said

FOLDER, ANSWERS_FILE, METRICS_FILE, HISTORY_FILE = "evaluation", "answers.jsonl", "metrics.json", "history.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The questions and what both models answered."""

    questions: Sequence[Question]
    base: Sequence[Said] | None
    tuned: Sequence[Said]
    decode: Callable[[Sequence[int]], str]


def write_record(folder: Path, asked: Asked, found: Sequence[Judged]) -> None:
    """Write answers and figures into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ANSWERS_FILE).open("w", encoding="utf-8") as file:
        for line in (*answer_lines(asked, found), *task_lines(found)):
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    figures = [{"type": one.metric.type, "results": to_wire(one.results), **one.details} for one in found]
    (folder / METRICS_FILE).write_text(json.dumps(figures, indent=2) + "\n")


def answer_lines(asked: Asked, found: Sequence[Judged]) -> Iterator[dict[str, Any]]:
    """Yield one object per question."""
    for number, question in enumerate(asked.questions):
        models = {"base": asked.base, "tuned": asked.tuned}
        yield {
            "row": question.place,
            **({} if question.rows == HELD_OUT else {"source": question.rows}),
            "prompt": asked.decode(question.prompt),
            "reference": question.reference,
            **({"calls": list(question.calls)} if question.calls else {}),
            **{name: _answer(said[number]) for name, said in models.items() if said},
            "scores": _scores(number, found),
        }


def task_lines(found: Sequence[Judged]) -> Iterator[dict[str, Any]]:
    """Yield one object per document of tasks of lm-eval."""
    for one in found:
        for number, tuned in enumerate(one.tuned_documents):
            base = one.base_documents[number : number + 1]
            said = {"base": base[0] if base else None, "tuned": tuned}
            models = {name: document for name, document in said.items() if document is not None}
            yield {
                "row": f"{one.metric.name} document {number}",
                "prompt": tuned.prompt,
                "reference": tuned.reference,
                **{name: {"answer": document.answer} for name, document in models.items()},
                "scores": {one.metric.name: {name: round(document.score, 4) for name, document in models.items()}},
            }


def _answer(said: Said) -> dict[str, Any]:
    """Labels have probabilities; answers that were generated have a text."""
    text = {"answer": said.raw or said.text, "cut": said.cut} if said.raw or said.cut or not said.labels else {}
    return text | ({"labels": {label: round(value, 4) for label, value in said.labels.items()}} if said.labels else {})


def _scores(number: int, found: Sequence[Judged]) -> dict[str, dict[str, float]]:
    scores: dict[str, dict[str, float]] = {}
    for one in found:
        if number not in one.asked:
            continue
        place = one.asked.index(number)
        models = {"base": one.base, "tuned": one.tuned}
        scores[one.metric.name] = {
            name: round(float(values[place]), 4) for name, values in models.items() if values is not None
        }
    return scores


def write_history(folder: Path, history: Iterable[Mapping[str, Any]]) -> None:
    """Write what was logged at every step and measured at every evaluation, of all attempts, one JSON object a line."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / HISTORY_FILE).open("w", encoding="utf-8") as file:
        for entry in history:
            file.write(json.dumps(finite(entry)) + "\n")


def finite(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry of the history without what JSON has no word for: infinity, and what is no number."""
    return {name: value for name, value in entry.items() if not isinstance(value, float) or math.isfinite(value)}
