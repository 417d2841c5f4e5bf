"""Turns in columns, pairs, keys and lines of text: one conversation where that is certain, else refused with what works."""

import pytest
from finetune_contract import Columns, Dataset

from tests.trainer.data_inputs import a_request, at, jsonl, prepared_rows, refusal_of, rows_of, said, tokenizer

pytestmark = pytest.mark.usefixtures("local_files")

FIRST = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nfine<|im_end|>\n"
TWO_TURNS = [
    (f"{FIRST}<|im_start|>user\nhow<|im_end|>\n<|im_start|>assistant\nred<|im_end|>\n", "fine<|im_end|>red<|im_end|>")
]
ONE_TURN = [(FIRST, "fine<|im_end|>")]
LOG = "Customer: hello\nAgent: fine\nCustomer: how\nAgent: red"

READ = [
    ("numbered columns", {"user_1": "hello", "assistant_1": "fine", "user_2": "how", "assistant_2": "red"}),
    ("numbers before the roles", {"turn_0_user": "hello", "turn_0_assistant": "fine", "turn_1_user": "how", "turn_1_assistant": "red"}),
    ("the last columns empty", {"Human 1": "hello", "Bot 1": "fine", "Human 2": "how", "Bot 2": "red", "Human 3": "", "Bot 3": None}),
    ("columns that are numbered from the second turn", {"user": "hello", "assistant": "fine", "user_2": "how", "assistant_2": "red"}),
    ("a word beside the roles", {"user_input_1": "hello", "bot_response_1": "fine", "user_input_2": "how", "bot_response_2": "red"}),
    ("an object of numbered turns", {"dialog": {
        "turn_2": {"user": "how", "assistant": "red"}, "turn_1": {"user": "hello", "assistant": "fine"}}}),
    ("pairs of role and text", {"messages": [["user", "hello"], ["assistant", "fine"], ["user", "how"], ["assistant", "red"]]}),
    ("speakers as keys", {"messages": [{"user": "hello"}, {"assistant": "fine"}, {"user": "how"}, {"assistant": "red"}]}),
    ("messages of one thread", {"messages": [
        {"id": number, "parent_id": "thread", **message} for number, message in enumerate(said("hello", "fine", "how", "red"), start=1)]}),
    ("messages that name the one before", {"messages": [
        {"id": number, "parent": number - 1, **message} for number, message in enumerate(said("hello", "fine", "how", "red"), start=1)]}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "record"), READ, ids=[kind for kind, _ in READ])
def test_turns_are_read_in_their_order_without_a_warning(tmp_path, kind, record):
    """Every answer is learned, and nothing is left over."""
    file = jsonl(tmp_path / "a.jsonl", [record])

    assert rows_of(tmp_path, file) == TWO_TURNS
    assert prepared_rows(a_request(file), tokenizer(), tmp_path / "again").warnings == ()


def test_a_table_may_have_conversations_of_several_lengths(tmp_path):
    """Cells of turns that were never said are empty."""
    (tmp_path / "a.csv").write_text("user_1,assistant_1,user_2,assistant_2\nhello,fine,how,red\nhello,fine,,\n")

    assert sorted(rows_of(tmp_path, tmp_path / "a.csv")) == sorted(ONE_TURN + TWO_TURNS)


def test_a_switch_beside_a_speaker_is_honoured(tmp_path):
    """The first answer is context."""
    turns = [{"user": "hello"}, {"assistant": "fine", "weight": 0}, {"user": "how"}, {"assistant": "red"}]

    assert rows_of(tmp_path, jsonl(tmp_path / "a.jsonl", [{"messages": turns}])) == [(TWO_TURNS[0][0], "red<|im_end|>")]


PATHS = "write each path from the first message to a last reply as a row with a column messages"
TREE = {"text": "hello", "role": "prompter", "replies": [{"text": "fine", "role": "assistant", "replies": []}]}
BRANCHES = [
    {"id": "1", "from": "human", "value": "hello"},
    {"id": "2", "parent": "1", "from": "gpt", "value": "fine"},
    {"id": "3", "parent": "1", "from": "gpt", "value": "red"},
]
MOSS = {
    "turn_1": {"Human": "<|Human|>: hello<eoh>", "Commands": "<|Commands|>: None<eoc>", "MOSS": "<|MOSS|>: fine<eom>"}
}
SENT = {"type": "comment", "body": "fine", "author": {"type": "admin"}}
REFUSED = [
    ("several questions", {"prompt1": "hello", "response1": "fine", "prompt2": "how", "response2": "red"},
     " holds several questions with their answers in each row (columns prompt1, response1, prompt2, response2): write each question "
     "with its answer into a row of its own, or, if they are the turns of one conversation, rename these columns to user_1, "
     "assistant_1, user_2 and so on; to learn only the first, set columns: {prompt: prompt1, completion: response1}"),
    ("speakers whose names are not known", {"customer_1": "hello", "agent_1": "fine", "customer_2": "how", "agent_2": "red"},
     " holds several questions with their answers in each row (columns customer_1, agent_1, customer_2, agent_2): write each question "
     "with its answer into a row of its own, or, if they are the turns of one conversation, rename these columns to user_1, "
     "assistant_1, user_2 and so on; to learn only the first, set columns: {prompt: customer_1, completion: agent_1}"),
    ("nothing but an empty place", {"messages": [{"role": "system", "content": None}]},
     ": a.jsonl row 1: its messages say nothing"),
    ("a tree", {"message_tree_id": "x", "prompt": TREE},
     f" holds trees of messages, replies inside of replies (column prompt): {PATHS}, or set columns: {{prompt: prompt.text, "
     "completion: prompt.replies.0.text} to learn the first reply to each first message"),
    ("branches", {"conversations": BRANCHES},
     f": a.jsonl row 1: messages 2 and 3 answer the same message, so they are branches of a tree: {PATHS}"),
    ("a gap", {"user_1": "hello", "assistant_1": "", "user_2": "how", "assistant_2": "red"},
     ": a.jsonl row 1: its assistant_1 is empty, but later turns are not: fill it in, or empty those behind it"),
    ("MOSS", {"chat": MOSS},
     ": a.jsonl row 1: message 1 is a turn of MOSS: write the texts of Human and MOSS as two messages, with role and content, without "
     "marks such as <|Human|>: and <eoh>"),
    ("pairs of names and texts", {"chat": [["A", "hello"], ["B", "fine"], ["A", "how"], ["B", "red"]]},
     ": a.jsonl row 1: message 1 has the role 'A', which is unknown: map it with datasets[].roles, such as roles: {user: [\"A\"], "
     "assistant: [\"B\"]}"),
    ("Intercom", {"id": "1", "source": {"body": "hello"}, "conversation_parts": {"conversation_parts": [SENT]}},
     " is an export of Intercom: the question is source.body, and the answers are the parts in conversation_parts. Write them, "
     "without HTML, into a column messages: role assistant where author.type is admin or bot, else user"),
    ("Zendesk", {"subject": "t", "description": "hello", "comments": [{"author_id": 1, "body": "fine"}]},
     " is an export of a help desk: each row is a ticket with its comments. Write the description and each public comment into a "
     "column messages: role user where the requester wrote it, else assistant"),
    ("a log with times", {"transcript": "[01/02/2024, 10:11:12] Anna: hello\n[01/02/2024, 10:11:15] Ben: fine"},
     " has the columns transcript, but a column with messages, or a prompt and a completion, or text is needed: name them in "
     "datasets[].columns, such as columns: {messages: transcript} and roles: {user: [\"Anna\"], assistant: [\"Ben\"]}"),
    ("a message a row", {"date": "1", "sender": "Anna", "text": "hello"},
     " holds one message in each row (columns sender and text), so no row has a question with its answer: join the messages of a "
     "conversation into one row with a column messages, each with a role, user or assistant, or set columns: {text: text} to learn "
     "each message as plain text"),
    ("an object in place of a role", {"messages": [{"from": {"user": {"displayName": "Anna"}}, "content": "hello"}]},
     ": a.jsonl row 1: message 1 has an object in place of its role: write who speaks as text, such as user or assistant"),
    ("a log", {"transcript": LOG},
     " has the columns transcript, but a column with messages, or a prompt and a completion, or text is needed: name them in "
     "datasets[].columns, such as columns: {messages: transcript} and roles: {assistant: [\"Agent\"]}"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "record", "message"), REFUSED, ids=[kind for kind, *_ in REFUSED])
def test_turns_of_which_the_order_or_the_speaker_is_not_certain_are_refused(tmp_path, kind, record, message):
    """By name, with what to do."""
    file = jsonl(tmp_path / "a.jsonl", [record])

    assert refusal_of(tmp_path, file) == ("DatasetInvalid", f"file:///a.jsonl{message}")


WORKS = [
    ("several questions", REFUSED[0][1], Columns(prompt="prompt1", completion="response1"), {}, ONE_TURN),
    ("a tree", REFUSED[3][1], Columns(prompt="prompt.text", completion="prompt.replies.0.text"), {}, ONE_TURN),
    ("pairs of names", REFUSED[7][1], Columns(), {"A": "user", "B": "assistant"}, TWO_TURNS),
    (
        "a log with times",
        {"transcript": "01/02/24, 10:11 - Anna: hello\n01/02/24, 10:12 - Ben: fine"},
        Columns(messages="transcript"),
        {"Anna": "user", "Ben": "assistant"},
        ONE_TURN,
    ),
    ("a log", {"transcript": LOG}, Columns(messages="transcript"), {"Agent": "assistant"}, TWO_TURNS),
]


def test_a_text_beside_its_author_is_a_text(tmp_path):
    """Books have authors, and an answer beside a sender is an answer."""
    book = jsonl(tmp_path / "a.jsonl", [{"author": "Anna", "text": "hello"}])
    letter = jsonl(tmp_path / "b.jsonl", [{"sender": "Anna", "text": "hello", "reply": "fine"}])

    assert rows_of(tmp_path, book) == [("hello<|im_end|>", "hello<|im_end|>")]
    (warning,) = prepared_rows(a_request(letter), tokenizer(), tmp_path / "again").warnings
    assert warning.endswith("To teach reply, set columns: {prompt: text, completion: reply}")


@pytest.mark.parametrize(("kind", "record", "columns", "roles", "rows"), WORKS, ids=[kind for kind, *_ in WORKS])
def test_what_the_refusals_advise_works(tmp_path, kind, record, columns, roles, rows):
    """Done as it is said."""
    file = jsonl(tmp_path / "a.jsonl", [record])

    assert rows_of(tmp_path, datasets=(Dataset(location=at(file), columns=columns, roles=roles),)) == rows
