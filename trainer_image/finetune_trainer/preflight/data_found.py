"""What the datasets of a job are: rows, format, columns, lengths, or why they cannot be used. Called by look."""

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from finetune_contract import ENV_WORKSPACE, Columns, PreflightConfig
from finetune_contract.wire import dumps

from finetune_trainer.data.corpus import Corpus, Placed
from finetune_trainer.data.formats.detect import ChatForm, Format
from finetune_trainer.data.invalid_rows import refuse_invalid
from finetune_trainer.data.prepare import prepare
from finetune_trainer.data.questions import MOST_LABELS
from finetune_trainer.data.request import preflight_request
from finetune_trainer.data.tasks.prepared import check_fit
from finetune_trainer.errors import ReportedError, UserError
from finetune_trainer.preflight.examine import Left, to_report
from finetune_trainer.preflight.model import examine_model
from finetune_trainer.storage.secrecy import redacted

COLUMNS = ("messages", "prompt", "completion", "text", "system")
ROWS_PER_LABEL = 10
"""With fewer rows for each different answer it is chance that they are equal."""

LONGEST_LABEL = 64
SHOWN = 300
"""Characters of the first question and of the first answer."""

Found = dict[str, Any]


def data_found(config: PreflightConfig, *, tokens: bool) -> Found:
    """Return one object per dataset; with `tokens` the report of a preflight, too."""
    found: Found = {"datasets": [], "report": None, "error": ""}
    try:
        found["datasets"] = [looked_at(corpus) for corpus in corpora(config)]
        if tokens and not any(one["error"] for one in found["datasets"]):
            found["report"] = json.loads(dumps(report(config)))
    except ReportedError as error:
        found["error"] = redacted(error.message)
    return found


def corpora(config: PreflightConfig) -> Iterator[Corpus]:
    """Yield the datasets of a job as its run reads them, for a model with a chat template."""
    documents = config.objective == "cpt"
    form = ChatForm(conversational=True, system_prompt=config.chat.system_prompt, plain=documents)
    return (Corpus(dataset, form, documents=documents) for dataset in config.datasets)


def looked_at(corpus: Corpus, *, guess: bool = True) -> Found:
    """Return what one dataset is: its rows counted, or why they cannot be used and which columns to try."""
    found: Found = {"uri": corpus.uri, "files": [file.path for file in corpus.files.files], "error": ""}
    try:
        prints = list(corpus.fingerprints())
        refuse_invalid([corpus.invalid])
        lengths, answers = [], Answers()
        for placed in corpus.rows():
            lengths.append(characters(placed))
            answers.add(answer(placed))
    except UserError as error:
        return found | {"error": redacted(error.message), "suggested": with_suggestion(corpus) if guess else None}
    form = corpus.form
    first = next(iter(corpus.first_rows(1)), None)
    return found | {
        "rows": len(set(prints)),
        "duplicates": len(prints) - len(set(prints)),
        "format": form.kind if form else "",
        "columns": columns_of(form) if form else {},
        "characters": sum(lengths),
        "labels": answers.labels(),
        "longest": max(lengths, default=0),
        "warnings": list(map(redacted, corpus.warnings)),
        "first": shown(first) if first else [],
    }


def columns_of(form: Format) -> dict[str, str]:
    """Return the columns that are read, by their role."""
    named = {role: getattr(form, role) for role in COLUMNS if getattr(form, role)}
    return named | ({"promptTemplate": form.template} if form.template else {})


def characters(placed: Placed) -> int:
    """Return the length of a row's text."""
    row = placed.row
    said = sum(len(text_of(message.get("content"))) for message in row.messages)
    return said + len(row.prompt) + len(row.text)


def answer(placed: Placed) -> str:
    """Return what a row ends with as an answer; empty for a row that has none, or that calls tools."""
    row = placed.row
    if not row.messages:
        return row.text.strip() if row.prompt.strip() else ""
    last = row.messages[-1]
    return (
        text_of(last.get("content")).strip() if last.get("role") == "assistant" and not last.get("tool_calls") else ""
    )


@dataclass(slots=True)
class Answers:
    """The answers of a dataset, as long as they may be the labels of a classification."""

    rows: int = 0
    different: set[str] = field(default_factory=set)
    """At most one more than can be labels."""

    def add(self, text: str) -> None:
        """Take the answer of one more row."""
        self.rows += 1
        if len(self.different) <= MOST_LABELS:
            self.different.add(text)

    def labels(self) -> list[str]:
        """Return the labels: few and short answers that come again and again; nothing where they are no labels."""
        few = 2 <= len(self.different) <= min(MOST_LABELS, self.rows // ROWS_PER_LABEL)
        return sorted(self.different) if few and all(0 < len(text) <= LONGEST_LABEL for text in self.different) else []


def text_of(content: Any) -> str:
    """Return what a message says; parts of a list one after the other."""
    return content if isinstance(content, str) else "" if content is None else json.dumps(content, ensure_ascii=False)


def shown(placed: Placed) -> list[list[str]]:
    """Return who says what in a row, cut short."""
    row = placed.row
    if row.messages:
        return [[str(message.get("role")), text_of(message.get("content"))[:SHOWN]] for message in row.messages[:4]]
    return [["prompt", row.prompt[:SHOWN]], ["text", row.text[:SHOWN]]] if row.prompt else [["text", row.text[:SHOWN]]]


def with_suggestion(corpus: Corpus) -> Found | None:
    """Return what the dataset is with the fields that most likely make it readable (`named`); None where nothing tells them."""
    suggested = corpus.suggestion()
    if suggested is None or not suggested.proven:
        return None
    columns, template = suggested.columns, suggested.prompt_template
    dataset = replace(corpus.dataset, columns=Columns(**columns), prompt_template=template)
    found = looked_at(corpus.reading(dataset), guess=False)
    named = {"columns": columns} | ({"promptTemplate": template} if template else {})
    return None if found["error"] else found | {"named": named}


def report(config: PreflightConfig) -> Any:
    """Return the report of a preflight that neither claims nor leaves anything."""
    with tempfile.TemporaryDirectory(dir=os.environ.get(ENV_WORKSPACE)) as folder:
        workspace = Path(folder)
        model = examine_model(config.model, workspace / "model")
        request = preflight_request(config, model.length_limit)
        prepared = prepare(request, model.tokenizer, workspace, sampling=True)
        check_fit(prepared.tasks, model.length_limit)
        return to_report(prepared, model, "", Left(), model.warnings)
