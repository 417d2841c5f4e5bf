"""Formats and their errors: what people have on disk, and what they are told when it cannot be read."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from finetune_trainer.contract import Chat, Columns, Dataset, Evaluation
from finetune_trainer.errors import UserError

from tests.trainer.data_inputs import BODY, a_request, at, jsonl, loaded, model, prepared_rows, said, texts, tokenizer

CHAT_TEXT = ("<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nfine<|im_end|>\n", "fine<|im_end|>")


@pytest.fixture(autouse=True)
def own_disk(monkeypatch):
    """file:// as on the local cluster."""
    monkeypatch.setenv("FINETUNE_ALLOW_FILE", "1")


def rows_of(tmp_path, *files, words=None, **changes):
    words = words or tokenizer()
    prepared = prepared_rows(a_request(*files, **changes), words, tmp_path / "work")
    return texts(prepared.folder / "train.arrow", words)


def refusal_of(tmp_path, *files, **changes):
    with pytest.raises(UserError) as refusal:
        rows_of(tmp_path, *files, **changes)
    return refusal.value.reason, refusal.value.message.replace(str(tmp_path), "")


def written(folder, suffix, records):
    """The same records in any format."""
    file = folder / f"rows{suffix}"
    match suffix:
        case ".jsonl":
            jsonl(file, records)
        case ".json":
            file.write_text(json.dumps({"data": records}))
        case ".csv":
            with file.open("w", newline="") as opened:
                writer = csv.DictWriter(opened, records[0].keys())
                writer.writeheader()
                writer.writerows(records)
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(records), file)
        case ".arrow":
            table = pa.Table.from_pylist(records)
            with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
    return file


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet", ".arrow"])
def test_prompt_and_completion_are_read_from_every_kind_of_file(tmp_path, suffix):
    """With a chat template they are a question and an answer."""
    file = written(tmp_path, suffix, [{"question": "hello", "reply": "fine"}])
    dataset = Dataset(location=at(file), columns=Columns(prompt="question", completion="reply"))

    assert rows_of(tmp_path, datasets=(dataset,)) == [CHAT_TEXT]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet", ".arrow"])
def test_messages_are_read_from_every_kind_of_file(tmp_path, suffix):
    """The format is told by the column."""
    assert rows_of(tmp_path, written(tmp_path, suffix, [{"messages": said("hello", "fine")}])) == [CHAT_TEXT]


SAME = [
    ("json lines in a .json", ".json", "\n".join(json.dumps({"messages": said(*two)}) for two in [("hello", "fine"), "xy"])),
    ("messages as text in csv", ".csv", "messages\n\"" + json.dumps(said("hello", "fine")).replace('"', '""') + "\"\n"),
    ("sharegpt", ".jsonl",
     json.dumps({"conversations": [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "fine"}]})),
    ("content in parts", ".jsonl",
     json.dumps({"messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}, *said("", "fine")[1:]]})),
    ("messages as prompt and completion", ".jsonl",
     json.dumps({"prompt": said("hello"), "completion": said("", "fine")[1:]})),
    ("byte order mark and empty lines", ".jsonl", '\ufeff{"prompt": "hello", "completion": "fine"}\n\n'),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "suffix", "content"), SAME, ids=[kind for kind, _, _ in SAME])
def test_the_same_conversation_in_many_shapes(tmp_path, kind, suffix, content):
    """All of these are what people have."""
    file = tmp_path / f"rows{suffix}"
    file.write_text(content)

    assert rows_of(tmp_path, file)[0] == CHAT_TEXT


def test_without_a_template_prompt_and_completion_are_plain_text(tmp_path):
    """A base model learns the completion and where it ends."""
    file = jsonl(tmp_path / "a.jsonl", [{"prompt": "hello", "completion": " fine"}])

    assert rows_of(tmp_path, file, words=tokenizer(None, eos="<|endoftext|>")) == [
        ("hello fine<|endoftext|>", " fine<|endoftext|>")
    ]


def test_system_prompts_come_from_the_row_else_from_the_job(tmp_path):
    """A system message in the conversation wins over both."""
    file = jsonl(
        tmp_path / "a.jsonl",
        [
            {"prompt": "a", "completion": "b", "system": "row"},
            {"prompt": "c", "completion": "d"},
        ],
    )
    told = [text.split("<|im_end|>")[0] for text, _ in rows_of(tmp_path, file, chat=Chat(system_prompt="job"))]

    assert told == ["<|im_start|>system\nrow", "<|im_start|>system\njob"]


def test_tool_call_arguments_are_not_filled_with_nulls_by_arrow(tmp_path):
    """A struct column gives all rows the keys of all; the rows as they were said come back."""
    template = (
        "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}"
        "{{ m.content }}<|im_end|>{% endfor %}"
    )
    calls = [{"function": {"name": "f", "arguments": {key: 1}}} for key in ("red", "blue")]
    records = [{"messages": [{"role": "assistant", "content": "", "tool_calls": [call]}]} for call in calls]
    file = written(tmp_path, ".parquet", records)

    assert [text for text, _ in rows_of(tmp_path, file, words=tokenizer(template), chat=Chat(train_on="all"))] == [
        'f{"red": 1}<|im_end|>', 'f{"blue": 1}<|im_end|>'
    ]  # fmt: skip


def test_a_folder_is_read_by_split_and_a_glob_as_named(tmp_path):
    """Nobody wants to train on test.jsonl because it lies beside train.jsonl."""
    (tmp_path / "rows").mkdir()
    jsonl(tmp_path / "rows" / "train-0.jsonl", [{"text": "red"}])
    jsonl(tmp_path / "rows" / "test-0.jsonl", [{"text": "blue"}])
    (tmp_path / "rows" / "dataset_info.json").write_text("{}")
    words = tokenizer(None)

    def read(path, split="train"):
        return [text for text, _ in rows_of(tmp_path, words=words, datasets=(Dataset(location=at(path), split=split),))]

    assert read(tmp_path / "rows") == ["red<|im_end|>"]
    assert read(tmp_path / "rows", "test") == ["blue<|im_end|>"]
    assert read(tmp_path / "rows" / "*.jsonl") == ["blue<|im_end|>", "red<|im_end|>"]


REFUSED = [
    ("missing column", '{"question": "x", "reply": "y"}', "DatasetInvalid",
     "file:///a.jsonl has the columns question, reply, but messages or prompt and completion or text is needed: name "
     "them in spec.datasets[].columns, such as columns: {prompt: question, completion: answer}"),
    ("preference data", '{"prompt": "p", "chosen": "x", "rejected": "y"}', "DatasetInvalid",
     "file:///a.jsonl looks like preference data (columns prompt, chosen, rejected): sft takes "
     "messages or prompt and completion"),
    ("broken line", '{"text": "x"}\n{"text": \n', "DatasetInvalid",
     "file:///a.jsonl: a.jsonl: row 2 is not JSON (Expecting value: line 1 column 9 (char 8)): correct or "
     "remove that line"),
    ("not an object", '["x"]', "DatasetInvalid",
     "file:///a.jsonl: a.jsonl: row 1 is list, not an object with columns: a file that is one list is named .json"),
    ("a number", "4", "DatasetInvalid", "file:///a.jsonl: a.jsonl: row 1 is int, not an object with columns"),
    ("a document over lines", '[\n{"text": "x"}\n]', "DatasetInvalid",
     "file:///a.jsonl: a.jsonl: row 1 is only [: a document over several lines is .json"),
    ("another encoding", b'{"text": "caf\xe9"}', "DatasetInvalid",
     "file:///a.jsonl: a.jsonl: row 1 is not UTF-8 text (invalid continuation byte): save the file as UTF-8"),
    ("nested for ever", '{"text": ' + 5000 * "[" + 5000 * "]" + "}", "DatasetInvalid",
     "file:///a.jsonl: a.jsonl: row 1 is nested too deeply to be read: correct or remove that line"),
    ("half a character", '{"text": "x"}\n{"text": "cut \\ud83d"}', "DatasetInvalid",
     "file:///a.jsonl: a.jsonl row 2: it holds \\ud83d, half of a character: correct or remove it"),
    ("answers good and bad", '{"prompt": "p", "completion": "x", "label": false}', "DatasetInvalid",
     "file:///a.jsonl looks like unpaired preference data (columns prompt, completion, label): sft would learn the bad "
     "answers too; keep the rows whose label is true, or set format: prompt-completion to learn all of them"),
    ("empty file", "", "DatasetTooSmall", "file:///a.jsonl has no rows"),
    ("empty value", '{"prompt": "x", "completion": "y"}\n{"prompt": null, "completion": "y"}', "DatasetInvalid",
     "file:///a.jsonl: a.jsonl row 2: its prompt is empty or missing; the row has prompt, completion"),
    ("number as text", '{"prompt": "x", "completion": 4}', "DatasetInvalid",
     "file:///a.jsonl: a.jsonl row 1: its completion is int, not text"),
    ("unknown role", '{"messages": [{"role": "bot", "content": "x"}]}', "DatasetInvalid",
     "file:///a.jsonl: a.jsonl row 1: message 1 has the role 'bot': it must be one of system, developer, "
     "user, assistant, tool, function"),
    ("an image", '{"messages": [{"role": "user", "content": [{"type": "image"}]}]}', "DatasetInvalid",
     "file:///a.jsonl: a.jsonl row 1: message 1 holds image: only parts such as "
     '{"type": "text", "text": ...} are trained'),
    ("parts without a type", '{"messages": [{"role": "user", "content": ["x"]}]}', "DatasetInvalid",
     "file:///a.jsonl: a.jsonl row 1: message 1 holds str: only parts such as "
     '{"type": "text", "text": ...} are trained'),
    ("a part without text", '{"messages": [{"role": "user", "content": [{"type": "text"}]}]}', "DatasetInvalid",
     "file:///a.jsonl: a.jsonl row 1: message 1 has a part of type text without text"),
    ("no messages", '{"messages": []}', "DatasetInvalid",
     "file:///a.jsonl: a.jsonl row 1: its messages are not a list with at least one message"),
    ("nothing learned", '{"messages": [{"role": "user", "content": "x"}]}', "DatasetInvalid",
     "no token of the 1 rows would be trained within 64 tokens: check chat.trainOn, spec.datasets[].columns and "
     "training.sequenceLength"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "content", "reason", "message"), REFUSED, ids=[kind for kind, *_ in REFUSED])
def test_rows_that_cannot_be_used_are_named(tmp_path, kind, content, reason, message):
    """Reason, file, row and remedy, word for word."""
    (tmp_path / "a.jsonl").write_bytes(content if isinstance(content, bytes) else content.encode())

    assert refusal_of(tmp_path, tmp_path / "a.jsonl") == (reason, message)


def test_a_label_beside_plain_text_is_pointed_out(tmp_path):
    """Classification data would teach the texts and never say its labels; asked for by format, all rows are taken."""
    labelled = jsonl(tmp_path / "a.jsonl", [{"text": f"red {number}", "label": "good"} for number in range(30)])
    judged = jsonl(
        tmp_path / "b.jsonl", [{"prompt": "how", "completion": f"red {n}", "label": n > 9} for n in range(30)]
    )
    asked = (Dataset(location=at(judged), format="prompt-completion"),)
    words = loaded(model(tmp_path / "model"))

    assert prepared_rows(a_request(labelled), words, tmp_path / "one").warnings == (
        f"file://{labelled} has a column label that is not read, only text is learned: to teach the label, set columns: "
        "{prompt: text, completion: label}",
    )
    assert prepared_rows(a_request(labelled, objective="cpt"), words, tmp_path / "two").warnings == ()
    assert prepared_rows(a_request(datasets=asked), words, tmp_path / "three").train.rows == 30


def test_files_that_cannot_be_used_are_named(tmp_path):
    """Nothing there, no rows, a pickle, a missing split, a file that is not what its name says."""
    for name in ("none", "pickle", "split"):
        (tmp_path / name).mkdir()
    (tmp_path / "none" / "notes.md").write_text("x")
    (tmp_path / "pickle" / "rows.pkl").write_bytes(b"\x80")
    jsonl(tmp_path / "split" / "train.jsonl", [{"text": "x"}])
    (tmp_path / "fake.parquet").write_text("not parquet")
    (tmp_path / "excel.csv").write_text("prompt;completion\nx;y\n")
    no_split = Dataset(location=at(tmp_path / "split"), split="validation")

    assert refusal_of(tmp_path, tmp_path / "gone.jsonl") == (
        "DatasetNotFound", "the data set file:///gone.jsonl does not exist: correct the source in spec.datasets"
    )  # fmt: skip
    assert refusal_of(tmp_path, tmp_path / "none") == (
        "DatasetInvalid",
        "file:///none has no files of rows, only notes.md: rows come from .jsonl, .ndjson, .json, .csv, .parquet, .arrow",
    )
    assert refusal_of(tmp_path, tmp_path / "pickle")[0] == "DatasetInvalid"
    assert refusal_of(tmp_path, datasets=(no_split,)) == (
        "DatasetNotFound", "file:///split has no split validation: it has train"
    )  # fmt: skip
    assert refusal_of(tmp_path, tmp_path / "excel.csv") == (
        "DatasetInvalid",
        "file:///excel.csv: excel.csv: its first line has no comma but ';': write the fields with commas between them",
    )
    reason, message = refusal_of(tmp_path, tmp_path / "fake.parquet")
    assert (reason, message[:59]) == (
        "DatasetInvalid",
        "file:///fake.parquet: fake.parquet cannot be read as parquet"[:59],
    )


def test_a_row_that_the_template_refuses_is_named(tmp_path):
    """The place of the first is in the message, and how many there are: nobody wants to find them one by one."""
    file = jsonl(tmp_path / "a.jsonl", [{"messages": said(word, "y")} for word in ("x", "boom", "z")] * 2)
    file.write_text(file.read_text() + json.dumps({"messages": said("boom", "u")}) + "\n")
    template = BODY.replace(
        "{{ m['content'] }}", "{{ m.content if m.content != 'boom' else raise_exception('no boom') }}"
    )

    reason, message = refusal_of(tmp_path, file, words=tokenizer(template), chat=Chat(train_on="all"))

    assert (reason, message) == (
        "DatasetInvalid",
        "a.jsonl row 2, the first of 2 that cannot be written (of 4 rows): the chat template refuses it: no boom; correct "
        "or remove such rows, or set chat.template: chatml",
    )


def test_cpt_splits_documents_and_closes_each_with_eos(tmp_path):
    """Nothing is lost, nothing is longer than the sequence, and no piece has only one token."""
    file = jsonl(tmp_path / "a.jsonl", [{"text": "red " * 16}, {"text": "blue"}])
    words = tokenizer(None)
    prepared = prepared_rows(a_request(file, objective="cpt", sequence_length=16), words, tmp_path / "work")
    pieces = [text for text, _ in texts(prepared.folder / "train.arrow", words)]

    assert "".join(pieces) == "red " * 16 + "<|im_end|>" + "blue<|im_end|>"
    assert (prepared.train.longest <= 16, prepared.train.truncated_rows, prepared.train.dropped_rows) == (True, 0, 0)


def test_cpt_refuses_conversations(tmp_path):
    """Their turns would be lost."""
    file = jsonl(tmp_path / "a.jsonl", [{"messages": said("x", "y")}])

    assert refusal_of(tmp_path, file, objective="cpt") == (
        "DatasetInvalid",
        "file:///a.jsonl holds conversations or prompts, but objective cpt learns plain text: give it a column text, or use "
        "objective sft",
    )


def test_a_gate_needs_twenty_rows(tmp_path):
    """Fewer say nothing about a promotion."""
    file = jsonl(tmp_path / "a.jsonl", [{"text": f"red {number}"} for number in range(50)])

    assert refusal_of(tmp_path, file, evaluation=Evaluation(fraction=0.1, gated=True)) == (
        "DatasetTooSmall",
        "evaluation.gate needs at least 20 held-out rows, not 10 of 50: add rows, raise evaluation.fraction or "
        "evaluation.maxExamples, or remove the gate",
    )


@pytest.mark.parametrize(
    ("over_length", "counts"), [("truncate", (2, 1, 0)), ("drop", (1, 0, 1))], ids=["truncate", "drop"]
)
def test_long_rows_are_cut_or_dropped_as_asked(tmp_path, over_length, counts):
    """(rows, truncated, dropped)"""
    file = jsonl(tmp_path / "a.jsonl", [{"text": "red " * 40}, {"text": "blue"}])
    prepared = prepared_rows(
        a_request(file, sequence_length=32, over_length=over_length), tokenizer(None), tmp_path / "work"
    )

    assert (prepared.train.rows, prepared.train.truncated_rows, prepared.train.dropped_rows) == counts


def test_long_rows_are_refused_when_asked(tmp_path):
    """The message says how many and how long."""
    file = jsonl(tmp_path / "a.jsonl", [{"text": "red " * 40}, {"text": "blue"}])
    reason, message = refusal_of(tmp_path, file, words=tokenizer(None), sequence_length=32, over_length="error")

    assert reason == "DatasetInvalid"
    assert message.startswith("1 of 2 rows are longer than 32 tokens (the longest has ")


def test_rows_cut_before_their_answer_are_dropped_and_counted(tmp_path):
    """TRL would drop them in silence."""
    file = jsonl(tmp_path / "a.jsonl", [{"messages": said("red " * 40, "fine")}, {"messages": said("x", "y")}])
    prepared = prepared_rows(a_request(file, sequence_length=32), tokenizer(), tmp_path / "work")

    assert (prepared.train.rows, prepared.train.masked_rows, prepared.train.truncated_rows) == (1, 1, 1)
    assert "1 rows are left out because nothing in them is trained" in prepared.warnings


def test_the_default_length_covers_99_percent_and_is_capped_by_the_model(tmp_path):
    """One long row in two hundred does not set the memory of all."""
    rows = [{"text": f"red {number}"} for number in range(199)] + [{"text": "blue " * 200}]
    file = jsonl(tmp_path / "a.jsonl", rows)
    words = tokenizer(None)

    assert prepared_rows(a_request(file), words, tmp_path / "1").sequence_length == 64
    assert (
        prepared_rows(a_request(file, over_length="error", length_limit=4096), words, tmp_path / "2").sequence_length
        == 256
    )
    assert prepared_rows(a_request(file, length_limit=32), words, tmp_path / "3").sequence_length == 32


def test_a_tokenizer_from_a_folder_knows_its_stops(tmp_path):
    """generation_config.json beside the tokenizer decides."""
    words = loaded(model(tmp_path / "m", stops=[4, 2]))
    file = jsonl(tmp_path / "a.jsonl", [{"prompt": "hello", "completion": "fine"}])

    assert rows_of(tmp_path, file, words=words) == [CHAT_TEXT]
