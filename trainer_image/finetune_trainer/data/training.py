"""What the trainer gets: the prepared rows as a memory-mapped data set, packed if the plan says so, digest checked."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from finetune_contract import ENV_WORKSPACE, Location, RunConfig

from finetune_trainer.chat import Turns, ready_tokenizer
from finetune_trainer.chat.stops import Tokenizer
from finetune_trainer.data.packing import best_fit
from finetune_trainer.data.prepare import EVALUATION_FILE, TRAIN_FILE, prepare, rows_digest
from finetune_trainer.data.request import run_request
from finetune_trainer.data.summary import SUMMARY_FILE, Summary, summary, template_digest
from finetune_trainer.data.tokenised import SCHEMA, read_batches
from finetune_trainer.errors import UserError
from finetune_trainer.evaluation.questions import QUESTIONS_FILE, Question, read_questions
from finetune_trainer.evaluation.tasks.asked import TASKS_FOLDER, Task, read_tasks
from finetune_trainer.storage import Role, open_location
from finetune_trainer.storage.transfer import alone

PACKED_FILE = "packed.arrow"
PACKED_SCHEMA = SCHEMA.append(pa.field("seq_lengths", pa.list_(pa.int32())))
PACKED_AT_ONCE = 256
"""Sequences gathered before they are written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedData:
    """Rows for TRL's SFTTrainer with `skip_prepare_dataset`: columns input_ids and labels, packed also seq_lengths."""

    train: Any
    """datasets.Dataset"""
    evaluation: Any | None
    """datasets.Dataset, never packed; None where nothing is held out"""
    packed: bool
    """Positions restart at each row of a sequence."""
    conversational: bool
    """Prompts go through the chat template."""
    examples: int
    """Training rows before packing."""
    evaluation_examples: int
    questions: list[Question]
    """What both models are asked; empty without metrics."""
    tasks: Mapping[Path, Task]
    """Tasks of lm-eval that both models are asked, by their folders."""
    tokens: int
    trained_tokens: int
    sequence_length: int
    stops: tuple[int, ...]
    """Tokens that end an answer: the base model's, and those that the rows teach."""
    learned_stops: tuple[int, ...]
    """Of them, those that the rows teach."""

    def stopping_also_at(self, tokens: Iterable[int]) -> "PreparedData":
        """Return the same rows for a model that other rows have taught further ends of its answers."""
        further = set(tokens).difference(self.stops)
        return replace(
            self,
            stops=tuple(sorted(further.union(self.stops))),
            learned_stops=tuple(sorted(further.union(self.learned_stops))),
        )


def training_rows(run: RunConfig, tokenizer: Tokenizer) -> PreparedData:
    """Return the rows that preflight prepared, or prepare the same ones here where there was no storage to share.

    The tokenizer gets the run's chat template and padding token. All processes of a Pod may call this at once:
    one works, the others wait. Raises UserError(DatasetChanged) when the rows are not those that were planned.
    """
    import datasets  # noqa: PLC0415 - a second of import that preflight, which shares this package, does not need

    turns = ready_tokenizer(tokenizer, run.chat)
    workspace = Path(os.environ[ENV_WORKSPACE])
    with alone(workspace / "training"):  # not the folder that a store fetches into: it takes that lock itself
        folder = _fetched(run.prepared, run, workspace) if run.prepared else _prepared_here(run, tokenizer, workspace)
        _check_digest(folder, run, workspace)
        train = _packed(folder / TRAIN_FILE, workspace, run) if run.training.packing else folder / TRAIN_FILE
    known = Summary(**json.loads((folder / SUMMARY_FILE).read_text()))
    _check_template(known, turns)
    evaluation = datasets.Dataset.from_file(str(folder / EVALUATION_FILE)) if known.evaluation_examples else None
    return PreparedData(
        train=datasets.Dataset.from_file(str(train)),
        evaluation=evaluation,
        packed=run.training.packing,
        conversational=bool(turns.template),
        stops=tuple(sorted(turns.base_stops.union(known.learned_stops, [tokenizer.eos_token_id]))),
        tasks=read_tasks(folder),
        questions=read_questions(folder / QUESTIONS_FILE) if run.evaluation.metrics else [],
        **{key: value for key, value in asdict(known).items() if key not in ("digest", "template")},
    )


def _fetched(location: Location, run: RunConfig, workspace: Path) -> Path:
    store = open_location(location, Role.CHECKPOINT)
    asked = [QUESTIONS_FILE] if run.evaluation.metrics else []
    if not store.exists(SUMMARY_FILE):
        raise UserError(
            "DatasetChanged",
            f"the rows that preflight prepared at {location.uri} are gone: delete the job and apply it again",
        )
    if any(metric.lm_eval for metric in run.evaluation.metrics):
        asked += [file.path for file in store.files(TASKS_FOLDER)]
    return store.fetch(workspace / "rows", (TRAIN_FILE, EVALUATION_FILE, SUMMARY_FILE, *asked))


def _prepared_here(run: RunConfig, tokenizer: Tokenizer, workspace: Path) -> Path:
    folder = workspace / "prepared"
    if not (folder / SUMMARY_FILE).is_file():
        prepared = prepare(run_request(run), tokenizer, workspace)
        (folder / SUMMARY_FILE).write_text(summary(prepared))
    return folder


def _check_digest(folder: Path, run: RunConfig, workspace: Path) -> None:
    """Read the rows once per Pod: what was planned is what is trained."""
    checked = workspace / "rows.checked"
    if checked.is_file():
        return
    found = json.loads((folder / SUMMARY_FILE).read_text())["digest"]
    if run.prepared:  # somebody else's disk may hold something else than its summary says
        found = rows_digest(folder)
    if run.dataset_digest and found != run.dataset_digest:
        raise UserError(
            "DatasetChanged",
            f"the rows have the digest {found[:19]}, but {run.dataset_digest[:19]} was planned: the data changed after "
            "preflight. Restore it, or apply the job under a new name with another output.destination",
        )
    checked.write_text(found)


def _check_template(known: Summary, turns: Turns) -> None:
    """The tokenizer that is published must write conversations as the rows were written."""
    if known.template and known.template != template_digest(turns):
        raise UserError(
            "DatasetChanged",
            "the chat template is not the one that wrote the rows: chat.templateSource changed after preflight. Restore it, "
            "or apply the job under a new name with another output.destination",
        )


def _packed(rows: Path, workspace: Path, run: RunConfig) -> Path:
    """Write the rows as packed sequences, in the order of best_fit: the same count that preflight reported."""
    target = workspace / PACKED_FILE
    if target.is_file():
        return target
    lengths = np.concatenate([batch[0] for batch in read_batches(rows)])
    table = pa.ipc.open_stream(pa.memory_map(str(rows))).read_all()
    sequences = best_fit(lengths.tolist(), run.training.sequence_length)
    partial = target.with_suffix(".part")
    with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_stream(sink, PACKED_SCHEMA) as writer:
        for start in range(0, len(sequences), PACKED_AT_ONCE):
            writer.write_batch(_gathered(table, sequences[start : start + PACKED_AT_ONCE], lengths))
    partial.replace(target)
    return target


def _gathered(table: Any, sequences: list[list[int]], lengths: Any) -> pa.RecordBatch:
    rows = [row for sequence in sequences for row in sequence]
    taken = table.take(rows).combine_chunks()
    ends = np.cumsum([0] + [int(lengths[sequence].sum()) for sequence in sequences])
    columns = [_relisted(taken.column(name), ends) for name in SCHEMA.names]
    counts = np.cumsum([0] + [len(sequence) for sequence in sequences])
    columns.append(pa.ListArray.from_arrays(pa.array(counts, pa.int32()), pa.array(lengths[rows], pa.int32())))
    return pa.record_batch(columns, schema=PACKED_SCHEMA)


def _relisted(column: Any, ends: Any) -> pa.ListArray:
    values = pa.concat_arrays([chunk.flatten() for chunk in column.chunks])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values)
