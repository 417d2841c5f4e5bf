"""All steps from files to tokenised rows, in order. Preflight runs this; the trainer only where nothing is shared."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import tee
from pathlib import Path

import numpy as np

from finetune_trainer.chat import Encoded, Encoder, Turns, ready_tokenizer
from finetune_trainer.chat.conversation import RowRefused
from finetune_trainer.chat.turns import Tokenizer
from finetune_trainer.data.corpus import Corpus, Placed
from finetune_trainer.data.formats.detect import ChatForm
from finetune_trainer.data.how_far import Say, counted, silent
from finetune_trainer.data.literal_tokens import LiteralTokens
from finetune_trainer.data.measure import TokenStats, cut, sequence_length
from finetune_trainer.data.notices import Notice, always_noticed, without_answer, written_turns
from finetune_trainer.data.request import DataRequest
from finetune_trainer.data.selection import HELD_OUT_FLOOR, Hashes, Selection, select, smallest
from finetune_trainer.data.tokenised import RowsWriter, combined
from finetune_trainer.errors import UserError

TRAIN_FILE = "train.arrow"
EVALUATION_FILE = "evaluation.arrow"

LARGE_BYTES = 4 << 30
"""Data above this is streamed, not fetched, and preflight counts a sample: all would take an hour or more."""

SAMPLED_BYTES = 256 << 20
"""Read of large data, from the beginning of each file: some 200,000 rows, which give the mean length to a percent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Tokenised rows in a folder, and what was found on the way."""

    folder: Path
    digest: str
    turns: Turns
    sequence_length: int
    train: TokenStats
    evaluation: TokenStats | None
    duplicates: int
    warnings: tuple[str, ...]
    scale: float = 1.0
    """Of a sample: all bytes over those that were read."""
    sampled: bool = False

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
    turns = ready_tokenizer(tokenizer, request.chat)
    corpora, source = open_corpora(request, turns, workspace)
    share = _sampled_share(corpora) if sampling else 1.0
    for corpus in corpora:
        corpus.sample(share)
    encoder = RowEncoder(tokenizer, turns, request)
    folder = workspace / "prepared"
    reserved = None if source is None else _write_source(source, encoder, folder / f"raw-{EVALUATION_FILE}", request)
    hashes = [_hashes(corpus, say) for corpus in corpora]
    selection = select(hashes, request.datasets, request.evaluation, request.seed, reserved=reserved)
    _check_trained(selection, request)
    lengths = _write_selected(corpora, selection, encoder, folder, held_out=source is None, say=say)
    for corpus in corpora:
        corpus.invalid.check()
    prepared = _measured(request, turns, selection, folder, lengths, unanswered=encoder.without_answer.warning())
    asked = [warning for corpus in (*corpora, *([source] if source else [])) for warning in corpus.warnings]
    noticed = (warning for warning in (*encoder.warnings(), *asked) if warning)
    prepared = replace(prepared, warnings=(*prepared.warnings, *noticed))
    if not is_large(corpora):
        return prepared
    return replace(prepared, digest=listing_digest(request, corpora, turns), scale=1 / share, sampled=share < 1)


def is_large(corpora: Sequence[Corpus]) -> bool:
    """Tell whether the data is streamed instead of fetched."""
    return sum(corpus.files.size_bytes for corpus in corpora) > LARGE_BYTES


def listing_digest(request: DataRequest, corpora: Sequence[Corpus], turns: Turns) -> str:
    """Return the digest of large data: of its files as they are listed, and of what is asked of them."""
    files = [
        f"{corpus.uri} {file.path} {file.size_bytes} {file.fingerprint}"
        for corpus in corpora
        for file in corpus.files.files
    ]
    own = [turns.template] if request.chat.template_source else []
    return combined(
        [*files, *own, repr((request.datasets, request.chat, request.objective, request.over_length, request.seed))]
    )


def _sampled_share(corpora: Sequence[Corpus]) -> float:
    total = sum(corpus.files.size_bytes for corpus in corpora)
    return SAMPLED_BYTES / total if total > LARGE_BYTES else 1.0


def open_corpora(request: DataRequest, turns: Turns, workspace: Path) -> tuple[list[Corpus], Corpus | None]:
    """Return the data sets and the separate evaluation source, with their files at hand."""
    documents = request.objective == "cpt"
    form = ChatForm(
        conversational=bool(turns.template),
        system_prompt=request.chat.system_prompt,
        template=turns.template,
        plain=documents,
    )
    corpora = [Corpus(dataset, form, documents=documents) for dataset in request.datasets]
    source = Corpus(request.evaluation.source, form, documents=documents) if request.evaluation.source else None
    fetched = [] if is_large(corpora) else corpora
    for number, corpus in enumerate([*fetched, source] if source else fetched):
        corpus.fetch(workspace / "data" / str(number))
    if request.objective == "cpt":
        for corpus in corpora:
            _refuse_turns(corpus)
    return corpora, source


class RowEncoder:
    """Encodes the rows of a run, and notices what their reader should know."""

    def __init__(self, tokenizer: Tokenizer, turns: Turns, request: DataRequest) -> None:
        self.without_answer = without_answer()
        learned_as_turns = [written_turns()] if request.objective == "sft" else []
        self._noticing: tuple[LiteralTokens | Notice, ...] = (
            LiteralTokens(tokenizer),
            self.without_answer,
            *always_noticed(),
            *learned_as_turns,
        )
        self._encoder = Encoder(tokenizer, turns, request.chat)
        self._encoded = self._abridged = 0

    def warnings(self) -> tuple[str, ...]:
        """Return what was noticed so far; empty texts where there was nothing."""
        abridged = (
            f"{self._abridged} of {self._encoded} rows: the chat template drops the reasoning of earlier answers, or their words "
            "beside tool calls, as it does when the model is served"
        )
        return (*(noticing.warning() for noticing in self._noticing), abridged if self._abridged else "")

    def encoded(self, rows: Iterable[Placed]) -> Iterator[Encoded | None]:
        """Encode rows in their order; None for a row that the template refuses, which is counted as invalid."""
        for noticing in self._noticing:
            rows = noticing.watched(rows)
        places, to_encode = tee(rows)
        for placed, result in zip(places, self._encoder.encode(one.row.to_encode() for one in to_encode), strict=True):
            if isinstance(result, RowRefused):
                placed.invalid.add(placed.file, placed.number, str(result))
                yield None
            else:
                self._encoded += 1
                self._abridged += result.abridged
                yield result


def _refuse_turns(corpus: Corpus) -> None:
    for placed in corpus.first_rows(1):
        if placed.row.messages or placed.row.prompt:
            raise UserError(
                "DatasetInvalid",
                f"{corpus.uri} holds conversations or prompts, but objective cpt learns plain text: add a text column, or "
                "use objective sft",
            )


def _hashes(corpus: Corpus, say: Say) -> Hashes:
    """One pass over a data set that keeps eight bytes a row. Raises UserError(DatasetTooSmall) when there are none."""
    rows = counted(corpus.fingerprints(), lambda rows: say(f"read {rows:,} rows of {corpus.uri}"))
    found = np.fromiter(rows, dtype=np.uint64)
    if not len(found):
        raise UserError("DatasetTooSmall", f"{corpus.uri} has no rows")
    return found


def _write_source(source: Corpus, encoder: RowEncoder, path: Path, request: DataRequest) -> Hashes:
    """Encode the rows of a separate evaluation source; return the hashes of all that it holds."""
    hashes = _hashes(source, silent)
    unique = np.zeros(len(hashes), dtype=bool)
    unique[np.unique(hashes, return_index=True)[1]] = True
    chosen = smallest(hashes, unique, request.evaluation.max_examples)
    kept = (placed for placed, keep in zip(source.rows(), chosen, strict=True) if keep)
    with RowsWriter(path) as writer:
        for row in encoder.encoded(kept):
            if row is not None:
                writer.add(row.input_ids, row.labels)
    source.invalid.check()
    return hashes


def _check_trained(selection: Selection, request: DataRequest) -> None:
    if not any(int(copies.sum()) for copies in selection.copies):
        uris = ", ".join(dataset.location.uri for dataset in request.datasets)
        raise UserError(
            "DatasetTooSmall", f"no rows of {uris} are left for training after removing duplicates and held-out rows"
        )


def _write_selected(
    corpora: Sequence[Corpus], selection: Selection, encoder: RowEncoder, folder: Path, *, held_out: bool, say: Say
) -> Counter[int]:
    """Encode the selected rows into raw files; return how many training rows have each length."""
    lengths: Counter[int] = Counter()
    copies, flags = np.concatenate(selection.copies), np.concatenate(selection.held_out)
    used = (copies > 0) | flags
    rows = (placed for corpus in corpora for placed in corpus.rows())
    kept = (placed for placed, keep in zip(rows, used, strict=True) if keep)
    with RowsWriter(folder / f"raw-{TRAIN_FILE}") as train:
        evaluation = RowsWriter(folder / f"raw-{EVALUATION_FILE}") if held_out else train
        encoded = counted(encoder.encoded(kept), lambda rows: say(f"tokenised {rows:,} of {int(used.sum()):,} rows"))
        for row, times, out in zip(encoded, copies[used], flags[used], strict=True):
            if row is None:
                continue
            if out:
                evaluation.add(row.input_ids, row.labels)
            for _ in range(0 if out else times):
                train.add(row.input_ids, row.labels)
                lengths[len(row.input_ids)] += 1
        if held_out:
            evaluation.close()
    return lengths


def _measured(
    request: DataRequest, turns: Turns, selection: Selection, folder: Path, lengths: Counter[int], *, unanswered: str
) -> Prepared:
    longest = sequence_length(
        lengths, wanted=request.sequence_length, limit=request.length_limit,
        objective=request.objective, over_length=request.over_length,
    )  # fmt: skip
    stats = [_cut(request, folder, name, longest) for name in (TRAIN_FILE, EVALUATION_FILE)]
    train, evaluation = stats
    if not train.rows:
        raise UserError(
            "DatasetInvalid",
            f"no token of the {lengths.total()} rows would be trained within {longest} tokens: "
            + (unanswered or _nothing_learned(train, longest)),
        )
    _check_gate(request, evaluation.rows, lengths.total())
    return Prepared(
        folder=folder,
        digest=combined(part.digest for part in stats),
        turns=turns,
        sequence_length=longest,
        train=train,
        evaluation=evaluation if evaluation.rows else None,
        duplicates=selection.duplicates,
        warnings=(*turns.warnings, *_warnings(request, selection, train, evaluation.rows)),
    )


def _nothing_learned(train: TokenStats, longest: int) -> str:
    """Say why rows hold nothing to train on: they are cut before the first answer, or none is learned."""
    if train.truncated_rows or train.longest >= longest:
        return f"they are longer than that, and cut before the first answer begins: raise training.sequenceLength (now {longest})"
    return "check chat.trainOn, spec.datasets[].columns and training.sequenceLength"


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


def _warnings(request: DataRequest, selection: Selection, train: TokenStats, held_out: int) -> Iterator[str]:
    if selection.leaked:
        yield f"{selection.leaked} training rows are also in the evaluation source: they are not trained"
    for dataset, times in zip(request.datasets, selection.repeated, strict=True):
        if times > 1.5:
            yield f"rows of {dataset.location.uri} are seen {times:.1f} times an epoch to reach its weight"
    if train.truncated_rows:
        share = 100 * train.truncated_rows / max(1, train.rows + train.masked_rows)
        yield f"{train.truncated_rows} rows ({share:.1f} %) are truncated: the end of their answers is lost"
    if train.dropped_rows:
        yield f"{train.dropped_rows} rows are left out because they are too long"
    if train.masked_rows:
        yield f"{train.masked_rows} rows are left out because they contain nothing to train on"
    if not held_out and request.evaluation.fraction and not request.evaluation.source:
        yield f"no rows are held out of {train.rows}, too few to set some aside: base and tuned model are not compared"
    if 0 < held_out < HELD_OUT_FLOOR:
        yield f"only {held_out} rows are held out: the evaluation is only a rough estimate"
