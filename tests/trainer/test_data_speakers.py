"""Messages that say who speaks in their own way, or not at all; conversations that are cut short or cut into rows."""

import pytest
from finetune_contract import Columns, Dataset

from tests.trainer.data_inputs import at, jsonl, refusal_of, rows_of

pytestmark = pytest.mark.usefixtures("local_files")

FLAGS = [
    ("is_human", True, 'roles: {user: ["true"], assistant: ["false"]}', {"true": "user", "false": "assistant"}),
    ("from_bot", False, 'roles: {user: ["false"], assistant: ["true"]}', {"false": "user", "true": "assistant"}),
]


@pytest.mark.parametrize(("key", "asks", "roles", "mapped"), FLAGS, ids=[key for key, *_ in FLAGS])
def test_a_flag_that_says_who_speaks_is_told_with_its_roles(tmp_path, key, asks, roles, mapped):
    """PIPPA's role-play, in one step: followed, the answers are learned and not the questions."""
    chat = [{"message": "how", key: asks}, {"message": "fine", key: not asks}]
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
