"""All steps from files to tokenised rows, in order. Preflight runs this; the trainer only where nothing is shared."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import tee
from pathlib import Path

import numpy as np

from finetune_trainer.chat import Encoded, Turns, ready_tokenizer
from finetune_trainer.chat.stops import Tokenizer
from finetune_trainer.data.corpus import Corpus, Placed
from finetune_trainer.data.how_far import Say, counted, silent
from finetune_trainer.data.judgeable import askable, check_questions, check_settings
from finetune_trainer.data.judgeable import warnings as judgeable_warnings
from finetune_trainer.data.left import LeftOut, left_out
from finetune_trainer.data.measure import TokenStats, cut, sequence_length
from finetune_trainer.data.opened import (
    Opened,
    check_usable,
    hashes_of,
    is_large,
    listing_digest,
    open_corpora,
    sampled_share,
)
from finetune_trainer.data.questions import Asked, questions
from finetune_trainer.data.read_columns import columns_of
from finetune_trainer.data.remarks import nothing_learned, rows_warnings
from finetune_trainer.data.request import DataRequest
from finetune_trainer.data.row_encoder import RowEncoder
from finetune_trainer.data.selection import HELD_OUT_FLOOR, Flags, Hashes, Selection, select, smallest
from finetune_trainer.data.tasks.prepared import TaskSize, prepare_tasks, tasks_digest
from finetune_trainer.data.tokenised import RowsWriter, combined, digest_of
from finetune_trainer.data.too_long import Lengths, Part, refuse_too_long, too_long_warnings
from finetune_trainer.errors import UserError
from finetune_trainer.evaluation.questions import QUESTIONS_FILE, write_questions
from finetune_trainer.evaluation.results import is_generated

TRAIN_FILE = "train.arrow"
EVALUATION_FILE = "evaluation.arrow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Tokenised rows in a folder, and what was found on the way."""

    folder: Path
    digest: str
    turns: Turns
    sequence_length: int
    train: TokenStats
    evaluation: TokenStats | None
    left: LeftOut
    warnings: tuple[str, ...]
    columns: tuple[tuple[str, str], ...] = ()
    """What is said of the columns that are read, and of those that are not."""
    scale: float = 1.0
    """Of a sample: all bytes over those that were read."""
    sampled: bool = False
    generated_answers: int = 0
    label_answers: int = 0
    """As PreflightReport has them."""
    tasks: tuple[TaskSize, ...] = ()
    """Tasks of lm-eval, for the metrics."""
    learned_stops: tuple[int, ...] = ()
    """Tokens that end answers in the rows, and at which the base model does not stop."""

    @property
    def duplicates(self) -> int:
        """Rows that say the same as another one."""
        return self.left.duplicates

    @property
    def evaluation_rows(self) -> int:
        """Held-out rows."""
        return self.evaluation.rows if self.evaluation else 0


def prepare(
    request: DataRequest, tokenizer: Tokenizer, workspace: Path, *, sampling: bool = False, say: Say = silent
) -> Prepared:
    """Tokenise, mask and cut the rows of a run into `workspace`/prepared; with `sampling` only a part of large data.

    `say` hears how far it has come, every some thousand rows.

    The tokenizer gets the run's template and padding token. Raises UserError (DatasetNotFound, DatasetUnauthorized,
    DatasetInvalid, DatasetTooSmall, ModelUnsupported), StorageUnavailable or StorageFull.
    """
    check_settings(request.evaluation)
    turns, folder = ready_tokenizer(tokenizer, request.chat), workspace / "prepared"
    tasks = prepare_tasks(request, turns, tokenizer, folder)
    opened = open_corpora(request, turns, workspace)
    share = sampled_share(opened.trained) if sampling else 1.0
    for corpus in opened.trained:
        corpus.sample(share)
    encoder, asked = RowEncoder(tokenizer, turns, request), Asked(request.evaluation)
    hashes, measured = ([hashes_of(corpus, say) for corpus in some] for some in (opened.trained, opened.measured))
    if not all(map(len, (*hashes, *measured))):
        check_usable(opened.all)
    held_out = Lengths()
    if opened.held_out:
        held_out = _write_source(opened.held_out, measured[0], encoder, asked, folder, request)
    for number, corpus in enumerate(opened.further):
        _ask_source(corpus, measured[opened.measured.index(corpus)], asked, number, request)
    selection = select(
        hashes, request.datasets, request.evaluation, request.seed, kept_out=measured, hold=opened.held_out is None
    )
    trained = _write_selected(opened, selection, encoder, asked, folder, held_out, say=say)
    check_usable(opened.all)
    _check_trained(selection, request)
    prepared = _measured(
        request, opened, turns, selection, folder, (trained, held_out), _unanswered(encoder, opened.trained)
    )
    prepared = with_questions(replace(prepared, tasks=tasks), asked, request, tokenizer)
    noticed = (warning for warning in (*encoder.warnings(), *opened.warnings) if warning)
    columns = tuple(columns_of(opened.trained))
    prepared = replace(
        prepared, warnings=(*prepared.warnings, *noticed), learned_stops=encoder.learned_stops, columns=columns
    )
    if not is_large(opened.trained):
        return prepared
    listed = listing_digest(request, opened.trained, turns, tasks_digest(prepared.folder))
    return replace(prepared, digest=listed, scale=1 / share, sampled=share < 1)


def with_questions(prepared: Prepared, asked: Asked, request: DataRequest, tokenizer: Tokenizer) -> Prepared:
    """Write what models are asked for the metrics. Raises UserError where a metric cannot be measured."""
    if not request.evaluation.metrics:
        return prepared
    found = list(questions(asked, tokenizer, prepared.turns, request.chat))
    kept = askable(found, request, longest=prepared.sequence_length)
    check_questions(found, kept, request)
    path = prepared.folder / QUESTIONS_FILE
    write_questions(path, kept)
    warned = judgeable_warnings(found, kept, request.evaluation)
    return replace(
        prepared,
        digest=rows_digest(prepared.folder),
        warnings=(*prepared.warnings, *warned),
        generated_answers=sum(is_generated(question, request.evaluation) for question in kept)
        + sum(task.answers for task in prepared.tasks),
        label_answers=sum(len(question.labels) for question in kept),
    )


def rows_digest(folder: Path) -> str:
    """Return the digest of prepared rows: of what is trained, measured and asked."""
    rows = [digest_of(folder / name) for name in (TRAIN_FILE, EVALUATION_FILE)]
    asked = folder / QUESTIONS_FILE
    questions = [hashlib.sha256(asked.read_bytes()).hexdigest()] if asked.is_file() else []
    return combined([*rows, *questions, *tasks_digest(folder)])


def _write_source(
    source: Corpus, hashes: Hashes, encoder: RowEncoder, asked: Asked, folder: Path, request: DataRequest
) -> Lengths:
    """Encode the rows of a separate evaluation source."""
    lengths = Lengths()
    chosen = _chosen(hashes, request)
    kept = (placed for placed, keep in zip(asked.watched(source.rows(), chosen), chosen, strict=True) if keep)
    with RowsWriter(folder / f"raw-{EVALUATION_FILE}") as writer:
        for place, row in _with_places(encoder, kept):
            if row is not None:
                writer.add(row.input_ids, row.labels)
                lengths.add(len(row.input_ids), place)
    return lengths


def _with_places(encoder: RowEncoder, rows: Iterable[Placed]) -> Iterator[tuple[str, Encoded | None]]:
    placed, to_encode = tee(rows)
    yield from zip((one.place for one in placed), encoder.encoded(to_encode), strict=True)


def _ask_source(source: Corpus, hashes: Hashes, asked: Asked, number: int, request: DataRequest) -> None:
    """Ask about the rows of a metric's own source."""
    for _ in asked.watched(source.rows(), _chosen(hashes, request), number):
        pass


def _chosen(hashes: Hashes, request: DataRequest) -> Flags:
    unique = np.zeros(len(hashes), dtype=bool)
    unique[np.unique(hashes, return_index=True)[1]] = True
    return smallest(hashes, unique, request.evaluation.max_examples)


def _check_trained(selection: Selection, request: DataRequest) -> None:
    if not any(int(copies.sum()) for copies in selection.copies):
        uris = ", ".join(dataset.location.uri for dataset in request.datasets)
        raise UserError(
            "DatasetTooSmall", f"no rows of {uris} are left for training after removing duplicates and held-out rows"
        )


def _write_selected(
    opened: Opened,
    selection: Selection,
    encoder: RowEncoder,
    asked: Asked,
    folder: Path,
    measured: Lengths,
    *,
    say: Say,
) -> Lengths:
    """Encode the selected rows into raw files; return the lengths of training rows, and add those of held-out rows to the others."""
    trained = Lengths()
    copies, flags = np.concatenate(selection.copies), np.concatenate(selection.held_out)
    used = (copies > 0) | flags
    held_out = opened.held_out is None
    rows = asked.watched((placed for corpus in opened.trained for placed in corpus.rows()), flags)
    kept = (placed for placed, keep in zip(rows, used, strict=True) if keep)
    with RowsWriter(folder / f"raw-{TRAIN_FILE}") as train:
        evaluation = RowsWriter(folder / f"raw-{EVALUATION_FILE}") if held_out else train
        encoded = counted(
            _with_places(encoder, kept), lambda rows: say(f"tokenised {rows:,} of {int(used.sum()):,} rows")
        )
        for (place, row), times, out in zip(encoded, copies[used], flags[used], strict=True):
            if row is None:
                continue
            if out:
                evaluation.add(row.input_ids, row.labels)
            for _ in range(0 if out else times):
                train.add(row.input_ids, row.labels)
            (measured if out else trained).add(len(row.input_ids), place, 1 if out else int(times))
        if held_out:
            evaluation.close()
    return trained


def _measured(
    request: DataRequest,
    opened: Opened,
    turns: Turns,
    selection: Selection,
    folder: Path,
    lengths: tuple[Lengths, Lengths],
    unanswered: str,
) -> Prepared:
    trained, held_out = lengths
    own = trained.rows if opened.held_out else trained.rows + held_out.rows
    longest = sequence_length(
        own, wanted=request.sequence_length, limit=request.length_limit,
        objective=request.objective, over_length=request.over_length,
    )  # fmt: skip
    stats = [_cut(request, folder, name, longest) for name in (TRAIN_FILE, EVALUATION_FILE)]
    train, evaluation = stats
    parts = (
        Part(name="training rows", stats=train, lengths=trained),
        Part(name="held-out rows", stats=evaluation, lengths=held_out),
    )
    refuse_too_long(parts, request, longest)
    if not train.rows:
        raise UserError(
            "DatasetInvalid",
            f"no token of the {trained.rows.total()} rows would be trained within {longest} tokens: "
            + (unanswered or nothing_learned(train, longest, request)),
        )
    _check_gate(request, evaluation.rows, trained.rows.total())
    left = left_out(opened.trained, selection, stats if opened.held_out is None else [train])
    return Prepared(
        folder=folder,
        digest=combined(part.digest for part in stats),
        turns=turns,
        sequence_length=longest,
        train=train,
        evaluation=evaluation if evaluation.rows else None,
        left=left,
        warnings=(
            *turns.warnings,
            *too_long_warnings(parts, request, longest),
            *rows_warnings(request, selection, parts, left),
        ),
    )


def _unanswered(encoder: RowEncoder, corpora: Iterable[Corpus]) -> str:
    """Say that nobody answers, with the columns in which an answer lies."""
    found = encoder.without_answer.warning()
    suggested = next(filter(None, (corpus.suggestion() for corpus in corpora)), None) if found else None
    return f"{found}, such as {suggested}" if suggested and "completion" in suggested.columns else found


def _cut(request: DataRequest, folder: Path, name: str, longest: int) -> TokenStats:
    raw = folder / f"raw-{name}"
    stats = cut(raw, folder / name, longest, objective=request.objective, over_length=request.over_length)
    raw.unlink()
    return stats


def _check_gate(request: DataRequest, held_out: int, rows: int) -> None:
    if request.evaluation.gated and held_out < HELD_OUT_FLOOR:
        raise UserError(
            "DatasetTooSmall",
            f"evaluation.gate needs at least {HELD_OUT_FLOOR} held-out rows, not {held_out} of {rows + held_out}: "
            "add rows, raise evaluation.fraction or evaluation.maxExamples, or remove the gate",
        )
