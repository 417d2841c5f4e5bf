"""Special tokens in what somebody said: counted, named, trained as they are."""

from pathlib import Path
from typing import Any

import pytest
from finetune_trainer.data.prepare import Prepared
from finetune_trainer.preflight.examine import examine
from finetune_trainer.preflight.preview_text import preview_text

from tests.trainer.data_inputs import (
    BODY,
    a_config,
    a_request,
    chats,
    jsonl,
    model,
    prepared_rows,
    said,
    texts,
    tokenizer,
)

DOES_AND_DO = (
    ": they become real tokens, so a turn seems to begin or end there, and the model learns that from answers. They are "
    "trained as they are: remove or respell them unless they are intended"
)


@pytest.fixture(autouse=True)
def own_disk(monkeypatch):
    """file:// as on the local cluster."""
    monkeypatch.setenv("FINETUNE_ALLOW_FILE", "1")


def prepared(tmp_path: Path, rows: list[Any], words: Any = None) -> Prepared:
    """The rows of one file, prepared."""
    return prepared_rows(a_request(jsonl(tmp_path / "a.jsonl", rows)), words or tokenizer(), tmp_path / "work")


def test_rows_with_special_tokens_are_counted_and_named(tmp_path):
    """How many, which, where the first is, what it does, what to do; the template's own tokens do not count."""
    rows = [
        *chats(7),
        {"messages": said("what is <|im_end|> and again <|im_end|>", "a token")},
        {"messages": said("hello", "<s>fine<|im_end|>")},
        {"messages": said("what is [INST] hello [/INST]", "fine")},
    ]

    assert prepared(tmp_path, rows).warnings == (
        "3 of 10 rows (30.0 %) hold special tokens of the model in their text (<|im_end|> in 2, <s> in 1, [/INST] in 1 and 1 "
        f"more; 1 in answers), first a.jsonl row 8{DOES_AND_DO}",
    )


def test_they_are_trained_as_they_are(tmp_path):
    """The tokenizer makes one real token of each, as a server's does; nothing is taken out."""
    words = tokenizer()
    found = prepared(tmp_path, [{"messages": said("hello", "fine<|im_end|>")}], words)

    ((_, learned),) = texts(found.folder / "train.arrow", words)
    assert learned == "fine<|im_end|><|im_end|>"
    assert words.encode(learned, add_special_tokens=False)[-2:] == [4, 4]


def test_arguments_of_tools_and_reasoning_are_looked_through(tmp_path):
    """Content is not the only text of a message; a CSV's prompt is a message, too."""
    call = {"type": "function", "function": {"name": "look", "arguments": {"where": ["<|im_start|>"]}}}
    rows = [
        {"messages": [*said("hello"), {"role": "assistant", "content": "", "tool_calls": [call]}]},
        {"messages": [*said("hello"), {"role": "assistant", "content": "fine", "reasoning_content": "<s>"}]},
        {"messages": said("hello", "fine"), "tools": [{"name": "look", "description": "<pad>"}]},
    ]

    written = "{{ m.reasoning_content }}{{ m.content }}{{ m.tool_calls }}"
    words = tokenizer("{{ tools }}" + BODY.replace("{{ m['content'] }}", written))
    assert prepared(tmp_path, rows, words).warnings == (
        "3 of 3 rows (100.0 %) hold special tokens of the model in their text (<|im_start|> in 1, <s> in 1, <pad> in 1; 2 in "
        f"answers), first a.jsonl row 1{DOES_AND_DO}",
    )


def test_ordinary_added_tokens_and_plain_text_are_not_counted(tmp_path):
    """<think> is meant to be said; a text without turns that holds <s> was mostly rendered by its author."""
    words = tokenizer()
    words.add_tokens(["<think>"])
    assert prepared(tmp_path, [{"messages": said("hello", "<think>red</think>")}], words).warnings == ()

    assert prepared(tmp_path, [{"text": "<s>red green<|endoftext|>"}], tokenizer(None)).warnings == ()


def test_special_tokens_between_documents_of_a_corpus_are_told(tmp_path):
    """Stories that a mark parts are one document with the real token inside; a row each gives each its end."""
    file = jsonl(tmp_path / "a.jsonl", [{"text": "red<|im_end|>blue<|im_end|>fine"}, {"text": "hello"}])

    assert prepared_rows(a_request(file, objective="cpt"), tokenizer(), tmp_path / "work").warnings == (
        "1 of 2 documents (50.0 %) hold special tokens of the model in their text (<|im_end|> in 1; 2 in all), first a.jsonl row 1: they "
        "become real tokens in the middle of a document, and the model learns to write them there. Where such a token parts two "
        "documents, write each into a row of its own of a .jsonl file, in a column text and without the token: the end of each row gets "
        "one",
    )
    parted = jsonl(tmp_path / "b.jsonl", [{"text": text} for text in ("red", "blue", "fine", "hello")])
    assert prepared_rows(a_request(parted, objective="cpt"), tokenizer(), tmp_path / "again").warnings == ()


def test_preview_and_preflight_say_it(tmp_path):
    """The same sentence in both, also for a row that is held out."""
    base, words = model(tmp_path / "model"), tokenizer()
    rows = [*chats(19), {"messages": said("<|im_start|>", "fine")}]
    config = a_config(tmp_path, base=base, data=jsonl(tmp_path / "data.jsonl", rows))

    outcome = examine(config, tmp_path / "preflight")

    said_so = (
        "1 of 20 rows (5.0 %) hold special tokens of the model in their text (<|im_start|> in 1; 0 in answers), first "
        f"data.jsonl row 20{DOES_AND_DO}"
    )
    assert outcome.preflight is not None
    assert said_so in outcome.preflight.warnings
    (preview,) = (tmp_path / "out" / ".checkpoints").glob("preview-*.txt")
    assert f"\nwarning: {said_so}\n" in preview.read_text()
    assert said_so in preview_text(prepared(tmp_path, rows), words, title="x").replace("a.jsonl", "data.jsonl")
