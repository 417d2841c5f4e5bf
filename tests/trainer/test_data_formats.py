"""Formats: what people have on disk is read as what it means."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from finetune_contract import Chat, Columns, Dataset

from tests.trainer.data_inputs import at, jsonl, loaded, model, rows_of, said, tokenizer

pytestmark = pytest.mark.usefixtures("local_files")

CHAT_TEXT = ("<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nfine<|im_end|>\n", "fine<|im_end|>")


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


def test_a_tokenizer_from_a_folder_knows_its_stops(tmp_path):
    """generation_config.json beside the tokenizer decides."""
    words = loaded(model(tmp_path / "m", stops=[4, 2]))
    file = jsonl(tmp_path / "a.jsonl", [{"prompt": "hello", "completion": "fine"}])

    assert rows_of(tmp_path, file, words=words) == [CHAT_TEXT]
