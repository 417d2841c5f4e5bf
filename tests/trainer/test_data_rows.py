"""From rows to what the trainer gets: duplicates, held-out rows, samples, mixtures, packing, the digest, large data."""

import errno
import json
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
from finetune_contract import Dataset, Evaluation
from finetune_trainer.data.measure import MOST_BARS, Histogram, histogram, percentile
from finetune_trainer.data.packing import best_fit, packed_sequences
from finetune_trainer.data.prepare import EVALUATION_FILE, TRAIN_FILE
from finetune_trainer.data.selection import held_out_count, select
from finetune_trainer.data.training import training_rows
from finetune_trainer.errors import StorageFull, UserError
from finetune_trainer.preflight.examine import examine
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from tests.trainer.data_inputs import (
    a_config,
    a_request,
    at,
    chats,
    jsonl,
    loaded,
    model,
    prepared_rows,
    texts,
    tokenizer,
)
from tests.trainer.tiny import a_run, changed, tiny_model

NOTHING_HELD = Evaluation(fraction=0.0)


@pytest.fixture(autouse=True)
def own_disk(monkeypatch):
    """file:// as on the local cluster."""
    monkeypatch.setenv("FINETUNE_ALLOW_FILE", "1")


def hashes(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.uint64)


def a_dataset(**changes) -> Dataset:
    return Dataset(location=at("/x"), **changes)


def test_exact_duplicates_are_trained_once_wherever_they_are():
    """Also across data sets."""
    found = select([hashes(1, 2, 1), hashes(2, 3)], [a_dataset(), a_dataset()], NOTHING_HELD, 0)

    assert ([part.tolist() for part in found.copies], found.duplicates) == ([[1, 1, 0], [0, 1]], 2)


def test_held_out_rows_do_not_depend_on_order_seed_or_sample():
    """The same rows stay out of training when data is added or sampled."""
    values = np.random.default_rng(0).integers(0, 2**63, 1000).astype(np.uint64)
    evaluation = Evaluation(fraction=0.05, max_examples=200)
    one = select([values], [a_dataset()], evaluation, 1)
    other = select([values[::-1].copy()], [a_dataset(max_examples=100)], evaluation, 2)

    assert set(values[one.held_out[0]].tolist()) == set(values[::-1][other.held_out[0]].tolist())
    assert (int(one.held_out[0].sum()), int(one.copies[0].sum()), int(other.copies[0].sum())) == (50, 950, 100)
    assert not (one.copies[0][one.held_out[0]]).any()


@pytest.mark.parametrize(
    ("rows", "fraction", "most", "expected"),
    [
        (1000, 0.05, 200, 50),
        (100, 0.05, 200, 20),
        (50, 0.05, 200, 10),
        (100000, 0.05, 200, 200),
        (1000, 0.0, 200, 0),
        (100, 0.05, 5, 5),
    ],
)
def test_how_many_rows_are_held_out(rows, fraction, most, expected):
    """The fraction, at least twenty where that is no more than a fifth, at most what was allowed."""
    assert held_out_count(rows, Evaluation(fraction=fraction, max_examples=most)) == expected


def test_a_mixture_has_the_shares_of_its_weights():
    """The epoch stays as long as all rows together; the small data set is repeated, the large one sampled."""
    values = np.random.default_rng(0).integers(0, 2**63, 1100).astype(np.uint64)
    found = select([values[:1000], values[1000:]], [a_dataset(weight=1.0), a_dataset(weight=1.0)], NOTHING_HELD, 0)

    assert [int(part.sum()) for part in found.copies] == [550, 550]
    assert (int(found.copies[0].max()), set(found.copies[1].tolist()), found.repeated) == (1, {5, 6}, (0.55, 5.5))


def test_without_weights_nothing_is_mixed():
    """All rows as they are."""
    found = select([hashes(1, 2, 3), hashes(4)], [a_dataset(), a_dataset()], NOTHING_HELD, 0)

    assert [part.tolist() for part in found.copies] == [[1, 1, 1], [1]]


def test_rows_of_an_evaluation_source_are_not_trained():
    """A leak would make every tuned model look good."""
    found = select([hashes(1, 2, 3)], [a_dataset()], Evaluation(), 0, kept_out=[hashes(2, 9)], hold=False)

    assert (found.copies[0].tolist(), found.leaked, int(found.held_out[0].sum())) == ([1, 0, 1], 1, 0)


def test_an_evaluation_source_is_encoded_beside_the_training_rows(tmp_path):
    """Its own file, its own limit."""
    train, held = jsonl(tmp_path / "train.jsonl", chats(30)), jsonl(tmp_path / "held.jsonl", chats(5))
    source = Dataset(location=at(held))
    words = tokenizer()
    prepared = prepared_rows(
        a_request(train, evaluation=Evaluation(source=source, max_examples=3)), words, tmp_path / "work"
    )

    assert (prepared.train.rows, prepared.evaluation_rows) == (25, 3)
    assert "5 training rows are also in the evaluation source: they are not trained" in prepared.warnings
    assert len(texts(prepared.folder / EVALUATION_FILE, words)) == 3


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 64), max_size=80))
def test_packing_keeps_every_row_and_never_overfills(lengths):
    """Each row once, no sequence too long, and at most one sequence is half empty."""
    sequences = best_fit(lengths, 64)
    filled = sorted(sum(lengths[row] for row in sequence) for sequence in sequences)

    assert sorted(row for sequence in sequences for row in sequence) == list(range(len(lengths)))
    assert all(total <= 64 for total in filled)
    assert sum(total <= 32 for total in filled) <= 1
    assert packed_sequences(Counter(lengths), 64) == len(sequences)


@given(st.lists(st.integers(0, 100_000), max_size=300))
def test_a_histogram_loses_no_row(lengths):
    """Every row is in the bar of its length; those beyond the last bar are in it."""
    found = histogram(Counter(lengths))

    assert sum(found.rows) == len(lengths)
    assert len(found.rows) <= MOST_BARS
    assert [found.rows[at] for at in range(len(found.rows) - 1)] == [
        sum(length // found.width == at for length in lengths) for at in range(len(found.rows) - 1)
    ]


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([], Histogram(width=1, rows=())),
        ([3, 3, 5], Histogram(width=1, rows=(0, 0, 0, 2, 0, 1))),
        ([*range(0, 2000, 10), 90_000], Histogram(width=100, rows=(*(10,) * 20, *(0,) * 11, 1))),
    ],
)
def test_bars_have_round_widths(lengths, expected):
    """About twenty of them reach to the 99th percentile, and one long row does not squeeze them."""
    assert histogram(Counter(lengths)) == expected


@given(st.lists(st.integers(1, 40), min_size=1, max_size=300), st.sampled_from([50, 99, 100]))
def test_percentiles_are_those_of_the_rows(lengths, percent):
    """Counted by length, not row by row: millions of rows take no memory."""
    assert percentile(Counter(lengths), percent) == sorted(lengths)[-(-(len(lengths) - 1) * percent // 100)]


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """A job that preflight has examined, and the run that the operator would make of its report."""
    base, data = model(tmp_path / "model"), jsonl(tmp_path / "data.jsonl", chats(120))
    report = examine(a_config(tmp_path, base=base, data=data), tmp_path / "preflight").preflight
    monkeypatch.setenv("FINETUNE_WORKSPACE", str(tmp_path / "trainer"))
    run = replace(
        a_run(tmp_path, model=base, data=data),
        dataset_digest=report.dataset_digest,
        prepared=replace(at("/x"), uri=report.prepared_uri),
        evaluation=Evaluation(fraction=0.1),
    )
    return changed(run, sequence_length=report.sequence_length, seed=1), report, base


def test_the_trainer_reads_what_preflight_wrote(planned):
    """Same counts, no tokenising, columns as TRL takes them."""
    run, report, base = planned

    rows = training_rows(run, loaded(base))

    assert (rows.examples, rows.evaluation_examples, rows.tokens, rows.trained_tokens) == (
        report.examples, report.evaluation_examples, report.tokens, report.trained_tokens
    )  # fmt: skip
    assert (rows.train.column_names, len(rows.train), len(rows.evaluation)) == (["input_ids", "labels"], 100, 20)
    assert (rows.packed, rows.conversational) == (False, True)
    assert sum(len(ids) for ids in rows.train["input_ids"]) == report.tokens


def test_without_shared_storage_the_trainer_prepares_the_same_rows(planned):
    """The digest proves it."""
    run, report, base = planned

    rows = training_rows(replace(run, prepared=None), loaded(base))

    assert (rows.examples, rows.tokens) == (report.examples, report.tokens)


@pytest.mark.parametrize("shared", [True, False])
def test_data_that_changed_after_preflight_is_refused(planned, tmp_path, shared):
    """Whether the prepared rows or the source changed."""
    run, report, base = planned
    folder = tmp_path / "out" / ".checkpoints" / f"prepared-{report.dataset_digest[7:23]}"
    (folder / TRAIN_FILE).write_bytes((folder / EVALUATION_FILE).read_bytes())
    jsonl(tmp_path / "data.jsonl", chats(119))

    with pytest.raises(UserError) as refusal:
        training_rows(run if shared else replace(run, prepared=None), loaded(base))

    assert refusal.value.reason == "DatasetChanged"
    assert refusal.value.message.endswith(
        f"but {report.dataset_digest[:19]} was planned: the data changed after preflight. Restore it, or apply the job under "
        "a new name with another output.destination"
    )


def test_rows_that_a_preflight_left_half_written_are_written_again(planned, tmp_path, monkeypatch):
    """A full volume, or a kill, while it copied: the summary comes last, so nobody takes the rest for the whole."""
    _, report, base = planned
    config = a_config(tmp_path, base=base, data=tmp_path / "data.jsonl", checkpoint=at(tmp_path / "other"))
    copy = shutil.copyfile

    def full(source, target):
        if source.name == TRAIN_FILE:
            raise OSError(errno.ENOSPC, "No space left on device")
        return copy(source, target)

    with monkeypatch.context() as volume:
        volume.setattr(shutil, "copyfile", full)
        with pytest.raises(StorageFull):
            examine(config, tmp_path / "first")
    again = examine(config, tmp_path / "second").preflight

    folder = tmp_path / "other" / again.prepared_uri.rpartition("/")[2]
    assert sorted(path.name for path in folder.iterdir() if path.name[0] != ".") == [
        EVALUATION_FILE, "prepared.json", TRAIN_FILE
    ]  # fmt: skip
    assert again.prepared_uri.rpartition("/")[2] == report.prepared_uri.rpartition("/")[2]


def test_packed_sequences_are_those_that_preflight_counted(planned):
    """seq_lengths tell where each row begins; every token is there once."""
    run, report, base = planned

    rows = training_rows(changed(run, packing=True), loaded(base))

    assert (rows.packed, len(rows.train), rows.train.column_names) == (
        True, report.packed_rows, ["input_ids", "labels", "seq_lengths"]
    )  # fmt: skip
    assert [sum(lengths) for lengths in rows.train["seq_lengths"]] == [len(ids) for ids in rows.train["input_ids"]]
    assert sum(len(ids) for ids in rows.train["input_ids"]) == report.tokens
    assert len(rows.train) < rows.examples


@pytest.mark.trainer
def test_packed_rows_do_not_see_each_other(planned, tmp_path):
    """The logits of a row in a packed sequence are those of the row alone, with TRL's own collator."""
    run, _, base = planned
    rows = training_rows(changed(run, packing=True), loaded(base))
    network = AutoModelForCausalLM.from_pretrained(tiny_model(tmp_path / "network"), dtype=torch.float32).eval()
    row = next(row for row in rows.train if len(row["seq_lengths"]) > 1)
    batch = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)([row])
    with torch.no_grad():
        packed = network(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits[0]
        start = 0
        for length in row["seq_lengths"]:
            alone = network(input_ids=batch["input_ids"][:, start : start + length]).logits[0]
            assert torch.allclose(packed[start : start + length], alone, atol=1e-5)
            start += length


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_large_data_is_sampled_and_said_to_be(tmp_path, monkeypatch, suffix):
    """The counts are scaled and no rows are left behind; the trainer streams everything: same digest, all rows."""
    monkeypatch.setattr("finetune_trainer.data.opened.LARGE_BYTES", 70_000)
    monkeypatch.setattr("finetune_trainer.data.opened.SAMPLED_BYTES", 60_000)
    monkeypatch.setenv("FINETUNE_WORKSPACE", str(tmp_path / "trainer"))
    records = [{"prompt": f"hello how are you {number:04}", "completion": "fine"} for number in range(4000)]
    table = pyarrow.Table.from_pylist(records)
    data = tmp_path / f"data{suffix}"
    match suffix:
        case ".jsonl":
            jsonl(data, records)
        case ".csv":
            pyarrow.csv.write_csv(table, data)
        case ".parquet":
            pyarrow.parquet.write_table(table, data, compression="none", use_dictionary=False)
    base = model(tmp_path / "model")

    report = examine(a_config(tmp_path, base=base, data=data), tmp_path / "preflight").preflight

    assert report.sampled
    assert report.warnings[0].startswith("the data is large: all counts are estimates from a sample of ")
    assert (report.prepared_uri, bool(report.preview_uri)) == ("", True)
    rows = training_rows(
        changed(
            replace(a_run(tmp_path, model=base, data=data), dataset_digest=report.dataset_digest),
            sequence_length=report.sequence_length, seed=1,
        ),
        loaded(base),
    )  # fmt: skip
    assert rows.examples + rows.evaluation_examples == 4000
    assert 0.7 * rows.tokens < report.tokens < 1.3 * rows.tokens
    assert json.loads((tmp_path / "out" / "finetune-run.json").read_text())["runDigest"] == report.run_digest
