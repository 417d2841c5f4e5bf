"""Files as people have them: every kind is read as the same rows, or refused with what to do; none is skipped in silence."""

import bz2
import gzip
import io
import json
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from finetune_contract import Dataset, Evaluation

from tests.trainer.data_inputs import (
    a_request,
    at,
    jsonl,
    prepared_rows,
    refusal_of,
    rows_of,
    said,
    texts,
    tokenizer,
)

pytestmark = pytest.mark.usefixtures("local_files")

TWO = [{"prompt": "hello", "completion": "fine"}, {"prompt": "how, now", "completion": "red\nblue"}]
LINES = "".join(json.dumps(row) + "\n" for row in TWO).encode()
CSV = 'prompt,completion\r\nhello,fine\r\n"how, now","red\nblue"\r\n'
LEARNED = ["fine<|im_end|>", "red\nblue<|im_end|>"]


OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
CELL = '<c t="inlineStr"><is><t xml:space="preserve">{}</t></is></c>'
SHEET_NAME = '<sheet name="S{0}" sheetId="{0}" r:id="r{0}"/>'
RELATED = '<Relationship Id="r{0}" Type="' + OFFICE + '/worksheet" Target="worksheets/sheet{0}.xml"/>'
FIRST = '<Relationship Id="r" Type="' + OFFICE + '/officeDocument" Target="xl/workbook.xml"/>'


def workbook(*sheets: list[list[str]]) -> bytes:
    """An Excel workbook, as small as they get."""
    numbers = range(1, len(sheets) + 1)
    named, related = ("".join(form.format(number) for number in numbers) for form in (SHEET_NAME, RELATED))
    parts = {
        "_rels/.rels": f'<Relationships xmlns="{PACKAGE}">{FIRST}</Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}"><sheets>{named}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{PACKAGE}">{related}</Relationships>',
    }
    for number, rows in zip(numbers, sheets, strict=True):
        cells = "".join(f"<row>{''.join(map(CELL.format, row))}</row>" for row in rows)
        parts[f"xl/worksheets/sheet{number}.xml"] = (
            f'<worksheet xmlns="{MAIN}"><sheetData>{cells}</sheetData></worksheet>'
        )
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as written:
        for name, text in parts.items():
            written.writestr(name, text)
    return made.getvalue()


SHEET = [["prompt", "completion"], ["hello", "fine"], ["how, now", "red\nblue"]]
KINDS = [
    ("a.jsonl.gz", gzip.compress(LINES)),
    ("a.jsonl.bz2", bz2.compress(LINES)),
    ("a.jsonl.zst", zstandard.ZstdCompressor().compress(LINES)),
    ("a.csv.gz", gzip.compress(CSV.encode())),
    ("a.tsv", CSV.replace(",", "\t").replace("how\t now", "how, now").encode()),
    ("semicolon.csv", CSV.replace(",", ";").replace("how; now", "how, now").encode()),
    ("utf16.csv", CSV.encode("utf-16")),
    ("bom.csv", b"\xef\xbb\xbf" + CSV.encode()),
    ("declared.csv", b"sep=,\r\n" + CSV.encode()),
    ("spaces.csv", CSV.replace("prompt,completion", "prompt , completion").encode()),
    ("a.xlsx", workbook(SHEET)),
    ("columns.json", json.dumps({key: [row[key] for row in TWO] for key in TWO[0]}).encode()),
    ("pandas.json", json.dumps({key: {str(n): row[key] for n, row in enumerate(TWO)} for key in TWO[0]}).encode()),
    ("wrapped.json", json.dumps({"version": 1, "data": TWO, "tags": ["a", "b"]}).encode()),
]


@pytest.mark.parametrize(("name", "content"), KINDS, ids=[name for name, _ in KINDS])
def test_the_same_rows_come_out_of_every_kind_of_file(tmp_path, name, content):
    """No script is needed before."""
    (tmp_path / name).write_bytes(content)

    assert [learned for _, learned in rows_of(tmp_path, tmp_path / name)] == LEARNED


def test_types_that_arrow_alone_has_are_read(tmp_path):
    """Text as bytes, messages as maps."""
    pq.write_table(pa.table({"prompt": [b"hello"], "completion": [b"fine"]}), tmp_path / "bytes.parquet")
    turns = [[list(turn.items()) for turn in said("hello", "fine")]]
    kind = pa.list_(pa.map_(pa.string(), pa.string()))
    pq.write_table(pa.table({"messages": pa.array(turns, kind)}), tmp_path / "maps.parquet")

    for name in ("bytes.parquet", "maps.parquet"):
        assert [learned for _, learned in rows_of(tmp_path, tmp_path / name)] == ["fine<|im_end|>"]


def test_a_column_that_is_there_twice_is_refused_in_parquet_too(tmp_path):
    """Arrow allows it."""
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 2, names=["text", "text"]), tmp_path / "a.parquet")

    assert refusal_of(tmp_path, tmp_path / "a.parquet") == (
        "DatasetInvalid",
        "file:///a.parquet: a.parquet: it has the column 'text' twice, and only one could be read: rename or remove one",
    )


def test_one_record_over_several_lines_is_one_row(tmp_path):
    """Its messages are not the records."""
    (tmp_path / "a.json").write_text(json.dumps({"messages": said("hello", "fine")}, indent=1))

    assert [learned for _, learned in rows_of(tmp_path, tmp_path / "a.json")] == ["fine<|im_end|>"]


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 4\n"
HIDDEN = SHEET_NAME.replace("<sheet ", '<sheet state="hidden" ')


def hiding(book: bytes, number: int) -> bytes:
    """The same workbook with a sheet that Excel does not show."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(book)) as read, zipfile.ZipFile(made, "w") as written:
        for name in read.namelist():
            written.writestr(name, read.read(name).decode().replace(SHEET_NAME.format(number), HIDDEN.format(number)))
    return made.getvalue()


REFUSED = [
    ("hidden.xlsx", hiding(workbook(SHEET, SHEET[1:]), 2), "it has several sheets with rows: S1 (2 rows of prompt, completion), S2 (hidden "
     "in Excel, 1 row of hello, fine). Save the one to train on as its own file"),
    ("pointer.parquet", POINTER, "it is a git-lfs pointer, not the data: run `git lfs pull` in the repository (or download the "
     "file itself) and copy it again"),
    ("pointer.jsonl", POINTER, "it is a git-lfs pointer, not the data: run `git lfs pull` in the repository (or download the "
     "file itself) and copy it again"),
    ("mac.jsonl", LINES.replace(b"\n", b"\r"), "its lines end with CR alone, as on an old Mac: save it with LF or CR LF line ends"),
    ("twice.csv", b"prompt,completion,completion\na,b,c\n",
     "its first line names the column 'completion' twice, and only one could be read: rename or remove one"),
    ("lists.json", json.dumps({"train": TWO, "test": TWO}).encode(),
     "it holds several lists of records (train, test): save the one to train on as .jsonl"),
    ("stats.json", b'{"rows": 4, "list": [1, 2]}',
     "it is not a list of records, nor an object that holds one list of them (its keys: rows, list): write each record as an "
     "object on a line of its own into a .jsonl file"),
    ("sheets.xlsx", workbook(SHEET, SHEET[1:]), "it has several sheets with rows: S1 (2 rows of prompt, completion), S2 (1 row of hello, "
     "fine). Save the one to train on as its own file"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "words"), REFUSED, ids=[name for name, _, _ in REFUSED])
def test_a_file_that_cannot_be_read_says_why(tmp_path, name, content, words):
    """And what to do."""
    (tmp_path / name).write_bytes(content)

    assert refusal_of(tmp_path, tmp_path / name) == ("DatasetInvalid", f"file:///{name}: {name}: {words}")


ROWS = [
    ("comma.jsonl", b'{"prompt": "a", "completion": "b"},', "it ends with a comma: remove the commas between JSON lines"),
    ("twice.jsonl", b'{"prompt": "a", "completion": "b", "completion": "c"}',
     "it names the key 'completion' twice, and only one value could be used: rename or remove one"),
    ("ragged.csv", b"prompt,completion\na,b,c",
     "it has 3 fields, not the 2 of the first line: quote fields that contain the separator"),
    ("joined.csv", b"prompt,completion\nprompt, completion", "it repeats the names of the columns, as joined files do: remove it"),
    ("python.csv", b"messages\n\"[{'role': 'user', 'content': 'a'}]\"",
     "its messages are text in Python's notation, not JSON: write that column with json.dumps, or save as .jsonl"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "words"), ROWS, ids=[name for name, _, _ in ROWS])
def test_a_row_that_cannot_be_read_says_why(tmp_path, name, content, words):
    """The other rows are read on, so that all bad ones can be counted."""
    (tmp_path / name).write_bytes(content)

    assert refusal_of(tmp_path, tmp_path / name) == ("DatasetInvalid", f"file:///{name}: {name} row 1: {words}")


def test_a_compressed_file_that_was_cut_is_refused(tmp_path):
    """As a broken download leaves it."""
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(LINES)[:-9])

    reason, message = refusal_of(tmp_path, tmp_path / "a.jsonl.gz")

    assert (reason, message.endswith("): copy it again, or compress it again")) == ("DatasetInvalid", True)


def test_files_of_a_folder_that_are_not_read_are_named(tmp_path):
    """What lies beside all data is not."""
    folder = tmp_path / "rows"
    folder.mkdir()
    jsonl(folder / "a.jsonl", TWO)
    for name in ("README.md", "LICENSE", "notes.txt", "old.doc"):
        (folder / name).write_text("x")

    assert prepared_rows(a_request(folder), tokenizer(), tmp_path / "work").warnings == (
        f"file://{folder}: 2 files are not read (notes.txt, old.doc): convert the files that hold rows to .jsonl",
    )


def test_text_files_are_documents_of_a_corpus(tmp_path):
    """Each file is one; the end-of-text token follows."""
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.txt").write_text("red\n\nblue\n")
    (tmp_path / "rows" / "b.md").write_text("# green\n")
    words = tokenizer(None)
    prepared = prepared_rows(a_request(tmp_path / "rows", objective="cpt"), words, tmp_path / "work")

    assert [whole for whole, _ in texts(prepared.folder / "train.arrow", words)] == [
        "red\n\nblue\n<|im_end|>", "# green\n<|im_end|>"
    ]  # fmt: skip


CARD = """---
configs:
- config_name: red
  data_files: [{split: train, path: red/*}, {split: test, path: held/*}]
- config_name: blue
  data_dir: blue
---
"""


@pytest.fixture
def card(tmp_path):
    """A data set with its card, as it was copied from a hub to a folder."""
    folder = tmp_path / "set"
    for name in ("red", "held", "blue"):
        (folder / name).mkdir(parents=True)
        jsonl(folder / name / "rows.jsonl", [{"prompt": "hello", "completion": name}])
    (folder / "README.md").write_text(CARD)
    return folder


def test_the_card_of_a_data_set_holds_on_every_store(tmp_path, card):
    """Configurations and splits are those of the card; what it does not name is not trained."""

    def learned(**chosen):
        return [answer for _, answer in rows_of(tmp_path, datasets=(Dataset(location=at(card), **chosen),))]

    assert learned(config="red") == ["red<|im_end|>"]
    assert learned(config="red", split="test") == ["held<|im_end|>"]
    assert learned(config="blue") == ["blue<|im_end|>"]
    red = a_request(datasets=(Dataset(location=at(card), config="red"),))
    assert prepared_rows(red, tokenizer(), tmp_path / "told").warnings[-1] == (
        f"file://{card}: only split train is read, without held/rows.jsonl: to measure on one of them, name it in evaluation.source"
    )
    assert refusal_of(tmp_path, card) == (
        "DatasetInvalid",
        "file:///set holds 2 datasets (red, blue) and its data card names no default: choose one with datasets[].config, such as "
        "config: red",
    )
    assert refusal_of(tmp_path, datasets=(Dataset(location=at(card), config="green"),)) == (
        "DatasetInvalid", "file:///set has no configuration green: its data card names red, blue; correct datasets[].config"
    )  # fmt: skip


def test_files_of_several_names_in_one_split_are_told_and_can_be_chosen(tmp_path):
    """UltraChat keeps train_sft and train_gen side by side."""
    folder = tmp_path / "set"
    folder.mkdir()
    for name in ("train_gen", "train_sft"):
        jsonl(folder / f"{name}-00000-of-00001.jsonl", [{"prompt": "hello", "completion": name}])
    chosen = Dataset(location=at(folder), split="train_sft")

    assert prepared_rows(a_request(folder), tokenizer(), tmp_path / "work").warnings == (
        f"file://{folder}: split train mixes the files of train_gen, train_sft: to read one of them only, set split: train_gen or "
        "split: train_sft",
    )
    assert [answer for _, answer in rows_of(tmp_path, datasets=(chosen,))] == ["train_sft<|im_end|>"]


def test_a_split_of_a_single_file_is_refused(tmp_path):
    """It would choose nothing."""
    file = jsonl(tmp_path / "a.jsonl", TWO)

    assert refusal_of(tmp_path, datasets=(Dataset(location=at(file), split="test"),)) == (
        "DatasetInvalid",
        "file:///a.jsonl names its files itself, so datasets[].split has no effect: remove it, or set source to the folder",
    )


def test_quotes_in_a_tsv_are_letters_where_they_enclose_nothing(tmp_path):
    """Many programs write TSV without quoting; a quote at the beginning of a field then closes nowhere."""
    file = tmp_path / "a.tsv"
    file.write_text('prompt\tcompletion\n"hello" there\t"fine" it said\nhow\tred "blue"\n')
    learned = [trained for _whole, trained in rows_of(tmp_path, file)]
    assert sorted(learned) == ['"fine" it said<|im_end|>', 'red "blue"<|im_end|>']

    file.write_text('prompt\tcompletion\n"hello" there\t"fine"\n')
    reason, message = refusal_of(tmp_path, file)
    assert (reason, "line 2 is not CSV" in message) == ("DatasetInvalid", True)


def test_lines_above_the_names_of_a_sheet_are_told_with_their_numbers(tmp_path):
    """As Excel shows them, also where the first lines are empty."""
    rows = [[], ["Our FAQ"], ["Nr", "question", "answer"], *([f"{n}", "hello", "fine"] for n in range(4))]
    (tmp_path / "a.xlsx").write_bytes(workbook(rows))

    assert refusal_of(tmp_path, tmp_path / "a.xlsx")[1] == (
        "file:///a.xlsx: a.xlsx: its first line holds Our FAQ, and the names of its columns seem to stand in line 3 (Nr, question, "
        "answer): remove lines 1 to 2"
    )


def test_files_for_tests_beside_those_for_training_are_named(tmp_path):
    """The folder of mlx-lm: nobody reads valid.jsonl and test.jsonl unless the job says so."""
    folder = tmp_path / "set"
    folder.mkdir()
    for name in ("train", "valid", "test"):
        jsonl(folder / f"{name}.jsonl", [{"prompt": "hello", "completion": name}])

    assert prepared_rows(a_request(folder), tokenizer(), tmp_path / "work").warnings == (
        f"file://{folder}: only split train is read, without test.jsonl, valid.jsonl: to measure on one of them, name it in "
        "evaluation.source",
    )


def test_a_split_that_is_measured_on_is_not_missed(tmp_path):
    """Following the hint ends it, whether the split is named by its file or by its name."""
    folder = tmp_path / "set"
    folder.mkdir()
    for name in ("train", "valid", "test"):
        jsonl(folder / f"{name}.jsonl", [{"prompt": f"hello {number}", "completion": name} for number in range(3)])
    sources = (Dataset(location=at(folder / "test.jsonl")), Dataset(location=at(folder), split="test"))

    for number, source in enumerate(sources):
        request = a_request(folder, evaluation=Evaluation(source=source))
        told = [one for one in prepared_rows(request, tokenizer(), tmp_path / str(number)).warnings if "split" in one]
        assert told == [
            f"file://{folder}: only split train is read, without valid.jsonl: to measure on one of them, name it in evaluation.source"
        ]


def test_a_refused_split_is_named_by_its_own_field(tmp_path):
    """The same words about training data would lead to the wrong place of the job."""
    folder = tmp_path / "set"
    folder.mkdir()
    for name in ("train", "valid"):
        jsonl(folder / f"{name}.jsonl", [{"prompt": "hello", "completion": name}])

    measured = Evaluation(source=Dataset(location=at(folder), split="test"))
    assert refusal_of(tmp_path, folder, evaluation=measured) == (
        "DatasetNotFound",
        "file:///set has no split test: it has train, validation; set evaluation.source.split, such as split: train",
    )


ASIDE = "because names that begin with _ are put aside: rename what is meant"


def test_a_file_that_its_name_puts_aside_is_named(tmp_path):
    """Spark and others begin with _ what is not data. Where it is named itself it is read; what a dot hides is nobody's data."""
    for name in ("_more.jsonl", "._more.jsonl", "_SUCCESS", ".ipynb_checkpoints/a.jsonl"):
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        jsonl(tmp_path / "d" / name, [{"text": "red"}])
    alone = refusal_of(tmp_path, tmp_path / "d")
    jsonl(tmp_path / "d" / "a.jsonl", [{"text": f"blue {number}"} for number in range(3)])
    beside = prepared_rows(a_request(tmp_path / "d"), tokenizer(None), tmp_path / "beside")
    itself = prepared_rows(a_request(tmp_path / "d" / "_more.jsonl"), tokenizer(None), tmp_path / "itself")

    place = f"file://{tmp_path / 'd'}"
    assert alone == ("DatasetInvalid", f"file:///d: 1 file is not read (_more.jsonl), {ASIDE}")
    assert [warning for warning in beside.warnings if "put aside" in warning] == [
        f"{place}: 1 file is not read (_more.jsonl), {ASIDE}"
    ]
    assert (beside.train.rows, itself.train.rows) == (3, 1)
