"""Messages that say who speaks in their own way, or not at all; conversations that are cut short or cut into rows."""

import pytest
from finetune_contract import Columns, Dataset

from tests.trainer.data_inputs import at, jsonl, refusal_of, rows_of

pytestmark = pytest.mark.usefixtures("local_files")

SUGGESTED = [
    ("an agent speaks first", ["Agent", "Client"], 'roles: {user: ["Client"], assistant: ["Agent"]}'),
    ("a therapist", ["Therapist", "Ann"], 'roles: {user: ["Ann"], assistant: ["Therapist"]}'),
    ("names", ["Ann", "Bob"], 'roles: {user: ["Ann"], assistant: ["Bob"]}'),
    ("a known speaker", ["user", "helper"], 'roles: {assistant: ["helper"]}'),
]


@pytest.mark.parametrize(("kind", "speakers", "roles"), SUGGESTED, ids=[kind for kind, *_ in SUGGESTED])
def test_roles_are_suggested_by_what_the_words_say_then_by_who_speaks_first(tmp_path, kind, speakers, roles):
    """A call centre greets before anybody asks."""
    chat = [{"speaker": speaker, "text": f"hello {number}"} for number, speaker in enumerate(speakers)]

    assert refusal_of(tmp_path, jsonl(tmp_path / "a.jsonl", [{"dialogue": chat}]))[1].endswith(f"such as {roles}")


FLAGS = [
    (
        "is_human",
        (True, False),
        'roles: {user: ["true"], assistant: ["false"]}',
        {"true": "user", "false": "assistant"},
    ),
    ("is_ai", (0, 1), 'roles: {user: ["0"], assistant: ["1"]}', {"0": "user", "1": "assistant"}),
    (
        "isUser",
        ("true", "false"),
        'roles: {user: ["true"], assistant: ["false"]}',
        {"true": "user", "false": "assistant"},
    ),
    (
        "from_bot",
        (False, True),
        'roles: {user: ["false"], assistant: ["true"]}',
        {"false": "user", "true": "assistant"},
    ),
]


@pytest.mark.parametrize(("key", "flags", "roles", "mapped"), FLAGS, ids=[key for key, *_ in FLAGS])
def test_a_flag_that_says_who_speaks_is_told_with_its_roles(tmp_path, key, flags, roles, mapped):
    """PIPPA's role-play, in one step: followed, the answers are learned and not the questions."""
    chat = [{"message": "how", key: flags[0]}, {"message": "fine", key: flags[1]}]
    file = jsonl(tmp_path / "a.jsonl", [{"conversation": chat}])
    followed = Dataset(location=at(file), columns=Columns(role=key), roles=mapped)

    assert refusal_of(tmp_path, file)[1] == (
        f"file:///a.jsonl: a.jsonl row 1: message 1 has no role (its keys: message, {key}): {key} says who speaks, so set columns: "
        f"{{role: {key}}} and {roles}"
    )
    assert [learned for _, learned in rows_of(tmp_path, datasets=(followed,))] == ["fine<|im_end|>"]


def test_messages_that_say_nothing_but_their_text_need_a_role(tmp_path):
    """Prompts of Arena-Hard: no key could be named."""
    file = jsonl(tmp_path / "a.jsonl", [{"turns": [{"content": "how"}]}])

    assert refusal_of(tmp_path, file)[1] == (
        "file:///a.jsonl: a.jsonl row 1: message 1 has no role (its keys: content): write who speaks into each message, as role: user or "
        "role: assistant"
    )


CUT = [
    ("[{'role': 'user', 'content': 'how'}, {'role': 'assist", "text in Python's notation"),
    ('[{"role": "user", "content": "how"}, {"role": "assist', "JSON text"),
]


@pytest.mark.parametrize(("text", "notation"), CUT, ids=[notation for _, notation in CUT])
def test_a_conversation_that_is_cut_short_is_called_that(tmp_path, text, notation):
    """A cell of 32,767 characters in Excel, or a column of a database that takes fewer."""
    file = jsonl(tmp_path / "a.jsonl", [{"messages": text}])

    assert refusal_of(tmp_path, file)[1] == (
        f"file:///a.jsonl: a.jsonl row 1: its messages are cut short: {notation} without its end, so export the column whole"
    )


def test_one_turn_in_each_row_is_told_by_the_numbers_of_conversation_and_turn(tmp_path):
    """EmpatheticDialogues as a table: its prompt is the situation, not what is answered."""
    rows = [
        {"conv_id": "hit:0", "utterance_idx": n, "prompt": "how", "utterance": f"fine {n}", "tags": ""} for n in (1, 2)
    ]

    assert refusal_of(tmp_path, jsonl(tmp_path / "a.jsonl", rows))[1] == (
        "file:///a.jsonl (2 rows) holds one message in each row (column utterance), so no row has a question with its answer: join the "
        "messages of a conversation into one row with a column messages, each with a role, user or assistant, or set columns: {text: "
        "utterance} to learn each message as plain text"
    )


def test_a_message_whose_text_has_another_key_is_told_which_keys_it_has(tmp_path):
    """A log of SMS."""
    chat = [{"role": "user", "body": "how"}, {"role": "assistant", "body": "fine"}]
    file = jsonl(tmp_path / "a.jsonl", [{"messages": chat}])
    followed = Dataset(location=at(file), columns=Columns(content="body"))

    assert refusal_of(tmp_path, file)[1] == (
        "file:///a.jsonl: a.jsonl row 1: message 1 (user) has no text in content (its keys: role, body): name the key that holds it in "
        "columns.content; message 2 (assistant) has no text in content (its keys: role, body): name the key that holds it in "
        "columns.content"
    )
    assert [learned for _, learned in rows_of(tmp_path, datasets=(followed,))] == ["fine<|im_end|>"]
