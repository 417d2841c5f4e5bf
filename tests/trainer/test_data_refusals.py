"""Rows and files that cannot be used, or hardly: what people are told, word for word."""

import json

import pytest
from finetune_contract import Chat, Dataset

from tests.trainer.data_inputs import (
    BODY,
    a_request,
    at,
    jsonl,
    loaded,
    model,
    prepared_rows,
    refusal_of,
    rows_of,
    said,
    tokenizer,
)

pytestmark = pytest.mark.usefixtures("local_files")

AS_OBJECT = 'not an object: write each row as an object, such as {"prompt": ..., "completion": ...}'
DOCUMENT = (
    "file:///a.jsonl: a.jsonl: it is a JSON document over several lines, not one record per line: rename it to .json"
)
REFUSED = [
    ("missing column", '{"topic": "x", "remark": "y"}', "DatasetInvalid",
     "file:///a.jsonl has the columns topic, remark, but a column with messages, or a prompt and a completion, or text is "
     "needed: name them in datasets[].columns, such as columns: {prompt: topic, completion: remark}, or the other way "
     "round"),
    ("preference data", '{"prompt": "p", "chosen": "x", "rejected": "y"}', "DatasetInvalid",
     "file:///a.jsonl looks like preference data (columns prompt, chosen, rejected): sft learns one answer. To learn those "
     "in chosen and not those in rejected, set columns: {prompt: prompt, completion: chosen}"),
    ("broken line", '{"text": "x"}\n{"text": \n', "DatasetInvalid",
     "file:///a.jsonl: 1 of 2 rows cannot be used: it is not JSON (Expecting value: line 1 column 9 (char 8), near `{\"text\":`): correct "
     "or "
     "remove that line (a.jsonl row 2), or skip them with datasets[].invalidRows: "
     "{action: skip, maxPercent: 50}"),
    ("not an object", '["x"]', "DatasetInvalid",
     f"file:///a.jsonl: a.jsonl row 1: it is a list, {AS_OBJECT}"),
    ("a number", "4", "DatasetInvalid", f"file:///a.jsonl: a.jsonl row 1: it is the number 4, {AS_OBJECT}"),
    ("a text", '"x"', "DatasetInvalid", f"file:///a.jsonl: a.jsonl row 1: it is text, {AS_OBJECT}"),
    ("a list on one line", '[{"text": "x"}, {"text": "y"}]', "DatasetInvalid",
     "file:///a.jsonl: a.jsonl row 1: it is a list of records, not one record: rename the file to .json"),
    ("a document over lines", '[\n{"text": "x"}\n]', "DatasetInvalid", DOCUMENT),
    ("a list that begins on its first line", '[{"text": "x"},\n{"text": "y"}]', "DatasetInvalid", DOCUMENT),
    ("a list with indents", '[\n  {\n    "text": "x"\n  }\n]', "DatasetInvalid", DOCUMENT),
    ("a record over lines", '{"text":\n "x"}', "DatasetInvalid", DOCUMENT),
    ("a broken line among whole ones", '{"text": "x",\n{"text": "y"}', "DatasetInvalid",
     "file:///a.jsonl: 1 of 2 rows cannot be used: it is not JSON (Expecting property name enclosed in double quotes: line 1 column "
     "14 (char 13), near `{\"text\": \"x\",`): correct or remove that line (a.jsonl row 1), or skip them with "
     "datasets[].invalidRows: {action: skip, maxPercent: 50}"),
    ("conversations written out", '{"chosen": "\\n\\nHuman: hello\\n\\nAssistant: fine", "rejected": "x"}', "DatasetInvalid",
     "file:///a.jsonl looks like preference data (columns chosen, rejected): sft learns one answer. To learn those in "
     "chosen and not those in rejected, set columns: {messages: chosen}, which splits its conversations into turns"),
    ("numbers as roles", '{"messages": [{"role": 0, "content": "x"}, {"role": 1, "content": "y"}]}', "DatasetInvalid",
     "file:///a.jsonl: a.jsonl row 1: message 1 has the role '0', which is unknown: map it with datasets[].roles, such as "
     'roles: {user: ["0"], assistant: ["1"]}'),
    ("another encoding", b'{"text": "caf\xe9"}', "DatasetInvalid",
     "file:///a.jsonl: a.jsonl row 1: it is not UTF-8 text (invalid continuation byte): save the file as UTF-8"),
    ("nested for ever", '{"text": ' + 5000 * "[" + 5000 * "]" + "}", "DatasetInvalid",
     "file:///a.jsonl: a.jsonl row 1: it is nested too deeply to be read: correct or remove that line"),
    ("half a character", '{"text": "x"}\n{"text": "cut \\ud83d"}', "DatasetInvalid",
     "file:///a.jsonl: 1 of 2 rows cannot be used: it holds \\ud83d, half of a character: correct or remove the row (a.jsonl row "
     "2), or skip them with datasets[].invalidRows: {action: skip, maxPercent: 50}"),
    ("answers good and bad", '{"prompt": "p", "completion": "x", "label": false}', "DatasetInvalid",
     "file:///a.jsonl looks like unpaired preference data (columns prompt, completion, label): 1 of 1 rows have label false, and sft "
     "would learn the bad answers too; keep the rows whose label is true and remove that column, or set format: prompt-completion to "
     "learn all of them"),
    ("empty file", "", "DatasetTooSmall", "file:///a.jsonl has no rows"),
    ("empty value", '{"prompt": "x", "completion": "y"}\n{"prompt": null, "completion": "y"}', "DatasetInvalid",
     "file:///a.jsonl: 1 of 2 rows cannot be used: its prompt is empty or missing; the row has prompt, completion (a.jsonl "
     "row 2). Correct or remove them, or skip them with datasets[].invalidRows: {action: skip, maxPercent: 50}"),
    ("number as text", '{"prompt": "x", "completion": 4}', "DatasetInvalid",
     "file:///a.jsonl: a.jsonl row 1: its completion is the number 4, not text: write numbers as text (in quotes in "
    "JSON, astype(str) in pandas), "
     "and classes by their "
     "names, or list these in datasets[].classNames"),
    ("unknown role", '{"messages": [{"role": "A", "content": "x"}]}', "DatasetInvalid",
     "file:///a.jsonl: a.jsonl row 1: message 1 has the role 'A', which is unknown: map it with datasets[].roles, such as "
     'roles: {user: ["A"]}'),
    ("an image", '{"messages": [{"role": "user", "content": [{"type": "image"}]}]}', "DatasetInvalid",
     "file:///a.jsonl: a.jsonl row 1: message 1 holds image: only parts such as "
     '{"type": "text", "text": ...} are trained, so remove the others, or such rows'),
    ("parts without a type", '{"messages": [{"role": "user", "content": ["x"]}]}', "DatasetInvalid",
     "file:///a.jsonl: a.jsonl row 1: message 1 holds str: only parts such as "
     '{"type": "text", "text": ...} are trained, so remove the others, or such rows'),
    ("a part without text", '{"messages": [{"role": "user", "content": [{"type": "text"}]}]}', "DatasetInvalid",
     "file:///a.jsonl: a.jsonl row 1: message 1 has a part of type text without text"),
    ("no messages", '{"messages": []}', "DatasetInvalid",
     "file:///a.jsonl: a.jsonl row 1: its messages are not a list with at least one message"),
    ("nothing learned", '{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "weight": 0}]}',
     "DatasetInvalid",
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
        f"file://{labelled} holds data that is not used: label in 30 (of 30 rows). Rows teach the text alone. To teach "
        "label, set columns: {prompt: text, completion: label}; label holds the same text in every row (good)",
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
    no_split = Dataset(location=at(tmp_path / "split"), split="validation")

    assert refusal_of(tmp_path, tmp_path / "gone.jsonl") == (
        "DatasetNotFound", "the dataset file:///gone.jsonl does not exist: correct source or revision in spec.datasets"
    )  # fmt: skip
    assert refusal_of(tmp_path, tmp_path / "none") == (
        "DatasetInvalid",
        "file:///none has no data files, only notes.md: .txt and .md are for objective cpt, and data is read from .jsonl, "
        ".ndjson, .json, .csv, .tsv, .xlsx, .parquet, .arrow; text files may end in .gz, .bz2 or .zst too. For sft, write each question "
        'with its answer as a line such as {"prompt": ..., "completion": ...} into a .jsonl file',
    )
    assert refusal_of(tmp_path, tmp_path / "pickle")[0] == "DatasetInvalid"
    assert refusal_of(tmp_path, datasets=(no_split,)) == (
        "DatasetNotFound", "file:///split has no split validation: it has train; set datasets[].split, such as split: train"
    )  # fmt: skip
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
        "file:///a.jsonl: 2 of 7 rows cannot be used: the chat template refuses it: no boom; correct or remove such rows, or set "
        "chat.template: chatml (a.jsonl rows 2, 7), or skip them with datasets[].invalidRows: "
        "{action: skip, maxPercent: 29}",
    )


def test_cpt_refuses_conversations(tmp_path):
    """Their turns would be lost."""
    file = jsonl(tmp_path / "a.jsonl", [{"messages": said("x", "y")}])

    assert refusal_of(tmp_path, file, objective="cpt") == (
        "DatasetInvalid",
        "file:///a.jsonl holds conversations or prompts, but objective cpt learns plain text: add a text column, or use "
        "objective sft",
    )


@pytest.mark.parametrize(("asks", "answers"), [(0, 1), (0.0, 1.0), (False, True), ("0", "1")])
def test_numbers_stand_for_roles_as_the_job_maps_them(tmp_path, asks, answers):
    """The mapping that the message suggests is read; the job's YAML holds the numbers as text."""
    turns = [{"role": asks, "content": "hello"}, {"role": answers, "content": "fine"}]
    file = jsonl(tmp_path / "a.jsonl", [{"messages": turns}])
    words = {"0": "user", "1": "assistant", "false": "user", "true": "assistant"}
    mapped = Dataset(location=at(file), roles=words)

    assert [learned for _, learned in rows_of(tmp_path, datasets=(mapped,))] == ["fine<|im_end|>"]


@pytest.mark.parametrize("content", ['[\n {"text": "x"}\n]', '[{"text": "x"},\n{"text": "y"}]', '{"text":\n "x"}'])
def test_a_document_is_read_once_it_is_renamed(tmp_path, content):
    """As the message for a document named .jsonl says."""
    (tmp_path / "a.json").write_text(content)

    assert rows_of(tmp_path, tmp_path / "a.json")[0] == ("x<|im_end|>", "x<|im_end|>")


def test_messages_are_numbered_as_in_the_data(tmp_path):
    """A system prompt that the job puts before them is not counted."""
    silent = (
        "{% for m in messages if m.role != 'tool' %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    )
    turns = [
        *said("hello", "fine"),
        {"role": "tool", "content": "a result that is left out"},
        *said("how", "thanks")[1:],
    ]
    file = jsonl(tmp_path / "a.jsonl", [{"messages": turns}])

    numbered = [
        refusal_of(tmp_path, file, words=tokenizer(silent), chat=Chat(system_prompt=prompt))[1].partition(": the chat")[
            2
        ]
        for prompt in ("", "be nice")
    ]
    assert numbered[0] == numbered[1]
    assert numbered[0].startswith(" template leaves out what message 3 (tool) says: ")
