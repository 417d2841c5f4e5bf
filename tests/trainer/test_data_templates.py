"""Chat templates: the date is pinned, arguments and an own template hold everywhere, a list of templates is used by kind."""

from dataclasses import replace

import pytest
from finetune_contract import Chat, Location
from finetune_operator.lifecycle.ending_table import MENDABLE
from finetune_trainer.chat import ready_tokenizer
from finetune_trainer.chat.conversation import Conversation
from finetune_trainer.data.training import training_rows
from finetune_trainer.errors import UserError
from finetune_trainer.preflight.examine import examine

from tests.trainer.data_inputs import (
    BODY,
    a_config,
    a_request,
    at,
    chats,
    jsonl,
    loaded,
    model,
    prepared_rows,
    rows_of,
    said,
    tokenizer,
    trained_text,
)
from tests.trainer.tiny import a_run, changed

pytestmark = pytest.mark.usefixtures("local_files")

DATED = "{{ strftime_now('%d %b %Y') }}\n" + BODY
OFF = "{% if enable_thinking is defined and not enable_thinking %}NO{% endif %}"
THINKING = BODY.replace("assistant\n{% endif %}", f"assistant\n{OFF}{{% endif %}}").replace(
    "{{ m['content'] }}", f"{{% if m.role == 'assistant' %}}{OFF}{{% endif %}}{{{{ m['content'] }}}}"
)
KNOWN = {"role": "user", "content": "hello"}
TOOL = [{"type": "function", "function": {"name": "look", "parameters": {}}}]


@pytest.mark.parametrize("tools", [None, TOOL])
def test_a_template_that_writes_the_date_writes_the_same_one_on_any_day(tmp_path, tools):
    """Else the run digest would change overnight, and a finished job would be refused as another run."""
    row = {"messages": said("hello", "fine"), **({"tools": tools} if tools else {})}
    words = tokenizer("{{ tools }}" + DATED)
    prepared = prepared_rows(
        a_request(jsonl(tmp_path / "a.jsonl", [row]), chat=Chat(train_on="all")), words, tmp_path / "work"
    )
    whole = rows_of(tmp_path, tmp_path / "a.jsonl", words=words, chat=Chat(train_on="all"))[0][0]

    assert "26 Jul 2024\n" in whole
    assert "26 Jul 2024\n" in words.apply_chat_template([KNOWN], tokenize=False)
    assert prepared.warnings[0] == (
        "the chat template writes today's date: every row gets 26 Jul 2024 instead, so that the run does not depend on the "
        "day it starts. A server writes the real date"
    )


def test_arguments_hold_in_rows_and_in_the_published_tokenizer(tmp_path):
    """A server that loads the tokenizer needs not be told again, and may still say otherwise."""
    chat = Chat(template_arguments={"enable_thinking": "false"})
    words = tokenizer(THINKING)

    assert trained_text(words, Conversation(messages=said("hello", "fine")), chat) == "fine<|im_end|>"
    words.save_pretrained(tmp_path / "published")
    published = loaded(tmp_path / "published")
    asked = published.apply_chat_template([KNOWN], tokenize=False, add_generation_prompt=True)
    other = published.apply_chat_template([KNOWN], tokenize=False, add_generation_prompt=True, enable_thinking=True)
    assert (asked.endswith("assistant\nNO"), other.endswith("assistant\n")) == (True, True)


@pytest.mark.parametrize(("value", "literal"), [("true", "true"), ("3", "3"), ("low", '"low"'), ('a"b', '"a\\"b"')])
def test_arguments_are_truth_values_numbers_or_text(value, literal):
    """As the template will see them."""
    words = tokenizer("{{ effort | tojson }} " + BODY)
    ready_tokenizer(words, Chat(template_arguments={"effort": value}))

    assert words.apply_chat_template([KNOWN], tokenize=False).startswith(f"{literal} ")


def test_an_argument_that_the_template_does_not_use_is_refused():
    """It would be accepted and ignored."""
    with pytest.raises(UserError) as refusal:
        ready_tokenizer(tokenizer(), Chat(template_arguments={"enable_thinkin": "false"}))

    assert (refusal.value.reason, refusal.value.message) == (
        "InvalidSpec",
        "chat.templateArguments names enable_thinkin, which the chat template does not use: correct the name or remove it",
    )


def test_an_own_template_is_read_from_a_file(tmp_path):
    """It writes the rows and goes into the tokenizer."""
    (tmp_path / "own.jinja").write_text(BODY.replace("<|im_start|>", "[INST]"))
    words = tokenizer()
    rows = rows_of(
        tmp_path,
        jsonl(tmp_path / "a.jsonl", chats(1)),
        words=words,
        chat=Chat(template_source=at(tmp_path / "own.jinja")),
    )

    assert rows == [
        ("[INST]user\nhello 0<|im_end|>\n[INST]assistant\nfine 0 thanks<|im_end|>\n", "fine 0 thanks<|im_end|>")
    ]
    assert words.chat_template.startswith("{% for m in messages %}[INST]")


def test_a_template_in_a_config_map_changes_the_digest_with_its_content(tmp_path, monkeypatch):
    """It is mounted as files by key; the rows that it writes are part of the run."""
    (tmp_path / "maps").mkdir()
    monkeypatch.setenv("FINETUNE_CONFIG_MAPS", f"chat={tmp_path / 'maps'}")
    chat = Chat(template_source=Location(uri="configmap://chat/own.jinja"))
    file = jsonl(tmp_path / "a.jsonl", chats(1))
    with pytest.raises(UserError) as refusal:
        ready_tokenizer(tokenizer(), chat)
    digests = set()
    for mark in ("[INST]", "<|im_start|>"):
        (tmp_path / "maps" / "own.jinja").write_text(BODY.replace("<|im_start|>", mark))
        digests.add(prepared_rows(a_request(file, chat=chat), tokenizer(), tmp_path / mark[1:5]).digest)

    assert (refusal.value.reason, refusal.value.message) == (
        "DatasetNotFound",
        "the ConfigMap chat does not exist in this namespace or has no key own.jinja: create it or correct chat.templateSource",
    )
    assert refusal.value.reason in MENDABLE  # it may arrive later: the operator runs preflight again
    assert len(digests) == 2


@pytest.mark.parametrize(("content", "words"), [("{% for", "is not a Jinja template ("), ("", "is empty")])
def test_a_file_that_is_no_template_is_refused(tmp_path, content, words):
    """Before any data is read."""
    (tmp_path / "own.jinja").write_text(content)

    with pytest.raises(UserError) as refusal:
        ready_tokenizer(tokenizer(), Chat(template_source=at(tmp_path / "own.jinja")))

    assert (refusal.value.reason, words in refusal.value.message) == ("InvalidSpec", True)


def test_of_several_templates_the_one_for_tools_writes_rows_with_tools(tmp_path):
    """As transformers and vLLM choose it."""
    words = tokenizer({"default": BODY, "tool_use": "{{ tools | tojson }}\n" + BODY})
    rows = [{"messages": said("a", "b")}, {"messages": said("c", "d"), "tools": TOOL}]
    plain, with_tools = rows_of(tmp_path, jsonl(tmp_path / "a.jsonl", rows), words=words)

    assert (plain[0].startswith("<|im_start|>"), with_tools[0].startswith('[{"type": "function"')) == (True, True)
    assert (plain[1], with_tools[1]) == ("b<|im_end|>", "d<|im_end|>")


def test_a_template_that_changed_after_preflight_is_refused(tmp_path, monkeypatch):
    """The published tokenizer would write conversations otherwise than the rows were written."""
    own = tmp_path / "own.jinja"
    own.write_text(BODY)
    chat = Chat(template_source=at(own))
    base, data = model(tmp_path / "model"), jsonl(tmp_path / "data.jsonl", chats(60))
    report = examine(a_config(tmp_path, base=base, data=data, chat=chat), tmp_path / "preflight").preflight
    monkeypatch.setenv("FINETUNE_WORKSPACE", str(tmp_path / "trainer"))
    run = replace(
        a_run(tmp_path, model=base, data=data),
        chat=chat, dataset_digest=report.dataset_digest, prepared=replace(at(own), uri=report.prepared_uri),
    )  # fmt: skip
    run = changed(run, sequence_length=report.sequence_length, seed=1)

    assert training_rows(run, loaded(base)).examples == report.examples
    own.write_text(BODY.replace("<|im_start|>", "[INST]"))
    with pytest.raises(UserError) as refusal:
        training_rows(run, loaded(base))

    assert (refusal.value.reason, refusal.value.message) == (
        "DatasetChanged",
        "the chat template is not the one that wrote the rows: chat.templateSource changed after preflight. Restore it, or "
        "apply the job under a new name with another output.destination",
    )
