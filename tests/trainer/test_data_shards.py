"""Numbered files say how many they are: a folder that lacks one is refused, a choice of them is told."""

from pathlib import Path

import pytest
from finetune_contract import Dataset, Location

from tests.trainer.data_inputs import a_request, jsonl, prepared_rows, refusal_of, rows_of, tokenizer

pytestmark = pytest.mark.usefixtures("local_files")


def a_folder(folder: Path, *names: str) -> Path:
    """A folder of files with one row each."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        jsonl(folder / name, [{"prompt": "hello", "completion": name}])
    return folder


SETS = [
    ("one in the middle", ("train-00000-of-00003.jsonl", "train-00002-of-00003.jsonl"),
     "lacks 1 of the 3 files train-*: train-00001-of-00003.jsonl", "train-*"),
    ("the last", tuple(f"data/part-0000{number}-of-00004.jsonl" for number in (0, 1, 2)),
     "lacks 1 of the 4 files data/part-*: data/part-00003-of-00004.jsonl", "data/part-*"),
    ("the first, counted from 1", ("rows_2_of_3.jsonl", "rows_3_of_3.jsonl"),
     "lacks 1 of the 3 files rows_*: rows_1_of_3.jsonl", "rows_*"),
    ("names with hashes", ("train-00000-of-00003-a09b74b3.jsonl", "train-00002-of-00003-1f2e3d4c.jsonl"),
     "lacks 1 of the 3 files train-*: train-00001-of-00003", "train-*"),
    ("many", ("train-00000-of-00009.jsonl", "train-00001-of-00009.jsonl"),
     "lacks 7 of the 9 files train-*: train-00002-of-00009.jsonl, train-00003-of-00009.jsonl, train-00004-of-00009.jsonl "
     "and 4 more", "train-*"),
]  # fmt: skip


@pytest.mark.parametrize(("about", "names", "lacks", "glob"), SETS, ids=[about for about, *_ in SETS])
def test_a_folder_that_lacks_a_numbered_file_is_refused(tmp_path, about, names, lacks, glob):
    """Two of three files would be trained as if they were all; the glob that the message names trains them on purpose."""
    folder = a_folder(tmp_path / "set", *names)

    assert refusal_of(tmp_path, folder) == (
        "DatasetInvalid",
        f"file:///set {lacks}. Copy the missing files; to train on those that are there, set source to file:///set/{glob}",
    )
    chosen = Dataset(location=Location(uri=f"file://{folder}/{glob}"))
    prepared = prepared_rows(a_request(datasets=(chosen,)), tokenizer(), tmp_path / "work")
    assert prepared.train.rows == len(names)
    assert [warning.split("* ", 1)[1] for warning in prepared.warnings] == [
        f"{lacks.replace('data/', '')}. Add them unless you left them out on purpose"
    ]


def test_whole_sets_of_numbered_files_are_read(tmp_path):
    """Counted from 0 or from 1; a split that is not trained may lack what it likes."""
    names = [f"train-0000{number}-of-00002.jsonl" for number in (0, 1)]
    folder = a_folder(tmp_path / "set", *names, "test-00001-of-00009.jsonl")
    other = a_folder(tmp_path / "other", "train-1-of-2.jsonl", "train-2-of-2.jsonl")

    assert len(rows_of(tmp_path, folder, other)) == 4
