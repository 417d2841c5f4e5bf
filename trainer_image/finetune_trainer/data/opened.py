"""The data sets of a run, opened: training data, a separate evaluation source, sources of metrics. Called by prepare."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from finetune_contract import Dataset

from finetune_trainer.chat import Turns
from finetune_trainer.data.corpus import Corpus
from finetune_trainer.data.formats.detect import ChatForm
from finetune_trainer.data.how_far import Say, counted
from finetune_trainer.data.invalid_rows import refuse_invalid
from finetune_trainer.data.request import DataRequest
from finetune_trainer.data.selection import Hashes
from finetune_trainer.data.tokenised import combined
from finetune_trainer.errors import UserError

LARGE_BYTES = 4 << 30
"""Data above this is streamed, not fetched, and preflight counts a sample: all would take an hour or more."""

SAMPLED_BYTES = 256 << 20
"""Read of large data, from the beginning of each file: some 200,000 rows, which give the mean length to a percent."""


def is_large(corpora: Sequence[Corpus]) -> bool:
    """Tell whether the data is streamed instead of fetched."""
    return sum(corpus.files.size_bytes for corpus in corpora) > LARGE_BYTES


def listing_digest(request: DataRequest, corpora: Sequence[Corpus], turns: Turns, tasks: Sequence[str]) -> str:
    """Return the digest of large data: of its files as they are listed, and of what is asked of them; and of tasks."""
    files = [
        f"{corpus.uri} {file.path} {file.size_bytes} {file.fingerprint}"
        for corpus in corpora
        for file in corpus.files.files
    ]
    own = [turns.template] if request.chat.template_source else []
    return combined(
        [
            *files,
            *own,
            repr((request.datasets, request.chat, request.objective, request.over_length, request.seed)),
            *tasks,
        ]
    )


def sampled_share(corpora: Sequence[Corpus]) -> float:
    """Return the part of the bytes that preflight reads."""
    total = sum(corpus.files.size_bytes for corpus in corpora)
    return SAMPLED_BYTES / total if total > LARGE_BYTES else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The data sets, with their files at hand."""

    trained: list[Corpus]
    held_out: Corpus | None
    """A separate evaluation source."""
    further: list[Corpus]
    """Sources of metrics."""

    @property
    def measured(self) -> list[Corpus]:
        """Those that are only measured on."""
        return [*([self.held_out] if self.held_out else []), *self.further]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of each data set should know; complete once all rows were read."""
        measured = frozenset[str]().union(*(corpus.files.places for corpus in self.measured))
        unmeasured = (corpus.files.unmeasured(measured) for corpus in self.trained)
        return tuple(filter(None, (*unmeasured, *(warning for corpus in self.all for warning in corpus.warnings))))

    @property
    def all(self) -> list[Corpus]:
        """Every one of them."""
        return [*self.trained, *self.measured]


def open_corpora(request: DataRequest, turns: Turns, workspace: Path) -> Opened:
    """Open the data sets of a run and bring their files here, unless they are large."""
    documents = request.objective == "cpt"
    form = ChatForm(
        conversational=bool(turns.template),
        system_prompt=request.chat.system_prompt,
        template=turns.template,
        plain=documents,
    )
    trained, measured, further = (
        [_corpus(dataset, form, field, documents=documents) for dataset in datasets]
        for field, datasets in (
            ("datasets[]", request.datasets),
            ("evaluation.source", [request.evaluation.source] if request.evaluation.source else []),
            ("evaluation.metrics[].source", request.evaluation.further_sources),
        )
    )
    opened = Opened(trained=trained, held_out=next(iter(measured), None), further=further)
    for number, corpus in enumerate([*measured, *further] if is_large(trained) else opened.all):
        corpus.fetch(workspace / "data" / str(number))
    if documents:
        for corpus in trained:
            _refuse_turns(corpus)
    return opened


def _corpus(dataset: Dataset, form: ChatForm, field: str, *, documents: bool) -> Corpus:
    """Open a data set; a refusal names the field of the job that says where it is."""
    try:
        return Corpus(dataset, form, documents=documents)
    except UserError as problem:
        raise UserError(problem.reason, problem.message.replace("datasets[].", f"{field}.")) from problem


def _refuse_turns(corpus: Corpus) -> None:
    for placed in corpus.first_rows(1):
        if placed.row.messages or placed.row.prompt:
            raise UserError(
                "DatasetInvalid",
                f"{corpus.uri} holds conversations or prompts, but objective cpt learns plain text: add a text column, or "
                "use objective sft",
            )


def hashes_of(corpus: Corpus, say: Say) -> Hashes:
    """One pass over a data set that keeps eight bytes a row."""
    rows = counted(corpus.fingerprints(), lambda rows: say(f"read {rows:,} rows of {corpus.uri}"))
    return np.fromiter(rows, dtype=np.uint64)


def check_usable(corpora: Sequence[Corpus]) -> None:
    """Raise UserError(DatasetInvalid, DatasetTooSmall) where rows cannot be used, or a data set has none."""
    refuse_invalid(corpus.invalid for corpus in corpora)
    empty = next((corpus for corpus in corpora if corpus.invalid.rows == corpus.invalid.seen), None)
    if empty:
        usable = " that can be used" if empty.invalid.seen else ""
        raise UserError("DatasetTooSmall", f"{empty.uri} has no rows{usable}")
