"""Names of files, splits, configurations and columns that do not exist: the nearest one that does is asked for."""

from dataclasses import replace

import pytest
from finetune_contract import Columns, Dataset
from finetune_trainer.data.reading.nearest import nearest

from tests.trainer.data_inputs import at, chats, jsonl, refusal_of

pytestmark = pytest.mark.usefixtures("local_files")

CARD = """---
configs:
- config_name: english
  data_files: a.jsonl
- config_name: german
  data_files: b.jsonl
---
"""
MEANT = [
    ("agent_response", ["ticket_subject", "customer_text", "agent_reply"], "agent_reply"),
    ("Qestion", ["Question", "Answer"], "Question"),
    ("text", ["context", "label"], ""),
    ("user_id", ["user_text", "answer"], ""),
    ("responseText", ["responseBody", "requestBody"], "responseBody"),
]


@pytest.mark.parametrize(("name", "known", "meant"), MEANT, ids=[name for name, *_ in MEANT])
def test_the_nearest_name_is_spelt_alike_or_another_word_for_the_same(name, known, meant):
    """Names that only share some letters are not asked for."""
    assert nearest(name, known) == meant


def test_another_word_for_a_column_is_understood(tmp_path):
    """A help desk whose agents reply, and a job that says respond."""
    file = jsonl(tmp_path / "a.jsonl", [{"customer_text": "hello", "agent_reply": "fine"}] * 2)
    named = Dataset(location=at(file), columns=Columns(prompt="customer_text", completion="agent_response"))

    assert refusal_of(tmp_path, datasets=(named,))[1] == (
        "file:///a.jsonl (2 rows): columns.completion names agent_response, which no row has. Its columns are customer_text, agent_reply. "
        "Did you mean agent_reply?"
    )


def test_a_file_that_is_not_there_is_told_with_the_nearest_beside_it(tmp_path):
    """Also where the folder holds others."""
    for name in ("train.jsonl", "notes.txt", "test.csv"):
        (tmp_path / name).write_text("")

    assert refusal_of(tmp_path, tmp_path / "trian.jsonl") == (
        "DatasetNotFound",
        "the dataset file:///trian.jsonl does not exist: correct source or revision in spec.datasets. Did you mean train.jsonl?",
    )


def test_a_configuration_and_a_split_that_are_not_there_are_told_with_the_nearest(tmp_path):
    """Of a folder with a data card, and of one whose files are named by split."""
    folder, parted = tmp_path / "set", tmp_path / "parted"
    folder.mkdir()
    parted.mkdir()
    (folder / "README.md").write_text(CARD)
    for name in ("a", "b"):
        jsonl(folder / f"{name}.jsonl", chats(2))
    for name in ("train", "validation", "test"):
        jsonl(parted / f"{name}.jsonl", chats(2))
    card, files = Dataset(location=at(folder), config="germn"), Dataset(location=at(parted))

    assert refusal_of(tmp_path, datasets=(card,))[1] == (
        "file:///set has no configuration germn: its data card names english, german; correct datasets[].config. Did you mean german?"
    )
    assert refusal_of(tmp_path, datasets=(replace(files, split="tset"),))[1] == (
        "file:///parted has no split tset: it has test, train, validation; set datasets[].split, such as split: test"
    )
