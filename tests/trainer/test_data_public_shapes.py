"""Data in the shapes of public data sets, logs and exports: read as their owners mean it, or refused with what works."""

import json

import pytest
from finetune_contract import Columns, Dataset

from tests.trainer.data_inputs import a_request, at, jsonl, prepared_rows, refusal_of, rows_of, said, tokenizer

pytestmark = pytest.mark.usefixtures("local_files")

CHAT_TEXT = ("<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nfine<|im_end|>\n", "fine<|im_end|>")
NEEDED = "but a column with messages, or a prompt and a completion, or text is needed"
NAME_THEM = f"{NEEDED}: name them in datasets[].columns, such as "


def cell(value):
    """JSON in the cell of a CSV."""
    return '"' + json.dumps(value).replace('"', '""') + '"'


READ = [
    ("the index of pandas", "a.csv", ",question,answer\n0,hello,fine\n"),
    ("the index of pandas as JSON", "a.jsonl", json.dumps({"": "0", "question": "hello", "answer": "fine"})),
    ("columns of Excel that are empty", "a.csv", "question;answer;;\nhello;fine;;\n;;;\n"),
    ("messages as text in question and answer", "a.csv",
     f"input,output\n{cell(said('hello'))},{cell(said('', 'fine')[1])}\n"),
    ("messages as text in the question alone", "a.csv", f"input,output\n{cell({'messages': said('hello')})},fine\n"),
    ("conversations in a list", "a.json", json.dumps([said("hello", "fine")])),
    ("a conversation a line", "a.jsonl", json.dumps(said("hello", "fine"))),
    ("pairs of texts", "a.jsonl", json.dumps({"conversation": [["hello", "fine"]]})),
    ("LangChain", "a.jsonl", json.dumps({"messages": [{"type": "human", "content": "hello"}, {"type": "ai", "content": "fine"}]})),
    ("LangChain, stored", "a.jsonl", json.dumps(
        {"messages": [{"type": "human", "data": {"content": "hello"}}, {"type": "ai", "data": {"content": "fine"}}]})),
    ("an export of Claude", "a.json", json.dumps([{"uuid": "u", "chat_messages": [
        {"sender": "human", "text": "hello", "content": [{"type": "text", "text": "hello"}]},
        {"sender": "assistant", "text": "fine", "content": [{"type": "text", "text": "fine"}]}]}])),
    ("an example of Langfuse", "a.jsonl", json.dumps({"input": "hello", "expected_output": "fine"})),
    ("an export of Open WebUI", "a.json", json.dumps(
        [{"id": "x", "title": "t", "chat": {"title": "t", "messages": said("hello", "fine")}}])),
    ("a column of messages that is empty", "a.jsonl", json.dumps({"messages": None, "prompt": "hello", "completion": "fine"})),
    ("rows by their numbers", "a.json", json.dumps({"0": {"question": "hello", "answer": "fine"}})),
    ("records over several lines", "a.json", json.dumps({"question": "hello", "answer": "fine"}, indent=1) * 2),
    ("Gemini", "a.csv", "text_input,output\nhello,fine\n"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "content"), READ, ids=[kind for kind, *_ in READ])
def test_what_tools_export_is_read_without_a_warning(tmp_path, kind, name, content):
    """As a question and its answer."""
    (tmp_path / name).write_text(content)

    assert rows_of(tmp_path, tmp_path / name) == [CHAT_TEXT]
    assert prepared_rows(a_request(tmp_path / name), tokenizer(), tmp_path / "again").warnings == ()


@pytest.mark.parametrize("missing", ["nan", "None", "<noinput>", "#REF!"])
def test_words_for_a_missing_value_in_a_question_are_counted(tmp_path, missing):
    """Alpaca's input after a trip through pandas."""
    file = jsonl(tmp_path / "a.jsonl", [{"instruction": "hello", "input": missing, "output": "fine"}])

    assert prepared_rows(a_request(file), tokenizer(), tmp_path / "work").warnings == (
        f"1 of 1 rows (100.0 %) have a question that ends with a word for a missing value ({missing}), first a.jsonl row 1: the model "
        "reads that word. Empty such cells unless it is meant",
    )


FAQ = "question,answer\nhello,fine\nhow,red\nthanks,blue\n"
REFUSED = [
    ("a title above the columns", "a.csv", "Our FAQ\nquestion,answer\nhello,fine\n",
     "2 of 2 rows cannot be used: it has 2 fields, not the 1 of the first line: the first line names the columns, so remove what "
     "stands above their names (a.csv rows 1, 2)"),
    ("a title above a table", "a.csv", "Our FAQ\n" + FAQ,
     "a.csv: its first line holds Our FAQ, and the names of its columns seem to stand in line 2 (question, answer): remove line 1"),
    ("a title with separators, an owner and an empty line", "a.csv", "Our FAQ 2024,\nOwner: J. Doe,\n,\n" + FAQ,
     "a.csv: its first line holds Our FAQ 2024, and the names of its columns seem to stand in line 4 (question, answer): remove lines "
     "1 to 3"),
    ("a title above a table with semicolons", "a.csv", "Our FAQ\n\n" + FAQ.replace(",", ";"),
     "a.csv: its first line holds Our FAQ, and the names of its columns seem to stand in line 3 (question, answer): remove lines 1 to 2"),
    ("a title above the columns of Excel", "a.csv", "Our FAQ,\nquestion,answer\n",
     "a.csv row 1: it has text in column 2, which has no name: name that column or empty it (of a table the first line holds the "
     "names, so remove lines above them)"),
    ("a row that is too short", "a.csv", "question,answer,note\nhello,fine\n",
     "a.csv row 1: it has 2 fields, not the 3 of the first line: write the separators of empty fields too"),
    ("a key twice in a cell", "a.csv", "messages\n\"[{\"\"role\"\": \"\"user\"\", \"\"role\"\": \"\"system\"\"}]\"\n",
     "a.csv row 1: its messages are JSON text that names the key 'role' twice, and only one value could be used: rename or remove "
     "one"),
    ("messages in Python's notation", "a.csv", "prompt,completion\n\"[{'role': 'user', 'content': 'hello'}]\",fine\n",
     "a.csv row 1: its messages are text in Python's notation, not JSON: write that column with json.dumps, or save as .jsonl"),
    ("several answers", "a.jsonl", json.dumps({"instruction": "hello", "output": ["fine", "thanks"]}),
     "a.jsonl row 1: its output is a list, not text: set columns: {prompt: instruction, completion: output.0}, which learns the first "
     "answer of each question"),
    ("answers of annotators", "a.jsonl", json.dumps({"prompt": "hello", "response": [{"value": "fine", "status": "submitted"}]}),
     "a.jsonl row 1: message 1 has no role (its keys: value, status): name the key that holds it in columns.role"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "content", "message"), REFUSED, ids=[kind for kind, *_ in REFUSED])
def test_what_cannot_be_read_is_refused_with_its_cause(tmp_path, kind, name, content, message):
    """And what to do about it."""
    (tmp_path / name).write_text(content)

    assert refusal_of(tmp_path, tmp_path / name)[1] == f"file:///{name}: {message}"


def test_the_messages_of_slack_are_not_learned_one_by_one(tmp_path):
    """Each as a text of its own would be a model that asks and never answers."""
    (tmp_path / "a.json").write_text(json.dumps([{"type": "message", "user": "U1", "text": "hello", "ts": "1"}]))

    assert refusal_of(tmp_path, tmp_path / "a.json")[1].startswith("file:///a.json holds one message in each row")


ADVISED = [
    ({"meeting": "red", "summary": "blue", "id": "x"}, "columns: {prompt: meeting, completion: summary}"),
    ({"source": "hello", "target": "fine"}, "columns: {prompt: source, completion: target}"),
    ({"question, text": "hello", "answer": "fine"}, 'columns: {prompt: "question, text", completion: answer}'),
    ({"problem": "hello", "r1_reasoning": "red", "r1_solution": "fine"}, "columns: {prompt: problem, completion: r1_solution}"),
    ({"subject": "red", "body": "hello", "reply": "fine"},
     'columns: {completion: reply} and promptTemplate: "{subject}\\n\\n{body}"'),
    ({"request_body": {"messages": said("hello")}, "response_body": {"choices": [{"message": said("", "fine")[1]}]}},
     "columns: {prompt: request_body, completion: response_body}"),
]  # fmt: skip


@pytest.mark.parametrize(("record", "advice"), ADVISED, ids=[" ".join(record) for record, _ in ADVISED])
def test_columns_that_say_what_they_are_are_suggested(tmp_path, record, advice):
    """In the spelling of YAML; a question of several columns is joined."""
    assert refusal_of(tmp_path, jsonl(tmp_path / "a.jsonl", [record]))[1] == (
        f"file:///a.jsonl has the columns {', '.join(record)}, {NAME_THEM}{advice}"
    )


NOT_ADVISED = [
    ({"prompt": said("hello"), "extra_info": {"index": 1}}, "prompt is a list of objects, extra_info is an object"),
    ({"title": "hello", "mapping": {"a": {}}}, "mapping is an object"),
]  # fmt: skip


@pytest.mark.parametrize(("record", "seen"), NOT_ADVISED, ids=[" ".join(record) for record, _ in NOT_ADVISED])
def test_a_column_that_holds_no_answer_is_not_suggested(tmp_path, record, seen):
    """Followed, such advice would teach a comment, a question or a wrong choice."""
    assert refusal_of(tmp_path, jsonl(tmp_path / "a.jsonl", [record]))[1] == (
        f"file:///a.jsonl has the columns {', '.join(record)}, {NEEDED}: none of them holds the answer as text (in a row: {seen}), so "
        "write it into a column completion"
    )


UNTOLD = [
    {"question": "hello", "opa": "red", "opb": "blue", "cop": 1, "exp": "green"},
    {"vraag": "hello", "antwoord": "fine", "thema": "red"},
]


@pytest.mark.parametrize("record", UNTOLD, ids=[" ".join(record) for record in UNTOLD])
def test_names_that_do_not_say_what_they_are_are_left_to_their_owner(tmp_path, record):
    """A guess among several texts would teach a wrong choice as readily as the answer."""
    assert refusal_of(tmp_path, jsonl(tmp_path / "a.jsonl", [record]))[1] == (
        f"file:///a.jsonl has the columns {', '.join(record)}, {NEEDED}: their names do not say which is the answer. If one is, set "
        "columns: {prompt: ..., completion: ...} with the names of the question and the answer, else write it into a column "
        "completion"
    )


def test_the_advice_for_preference_data_works_when_followed(tmp_path):
    """The question may be a conversation, and the better answer a message."""
    pair = {"chosen": said("", "fine")[1], "rejected": said("", "thanks")[1]}
    file = jsonl(tmp_path / "a.jsonl", [{"conversations": said("hello"), **pair}])
    followed = Dataset(location=at(file), columns=Columns(prompt="conversations", completion="chosen"))

    assert refusal_of(tmp_path, file)[1].endswith("set columns: {prompt: conversations, completion: chosen}")
    assert rows_of(tmp_path, datasets=(followed,)) == [CHAT_TEXT]


def test_conversations_that_were_compared_are_not_advised_alone(tmp_path):
    """One of the two lost."""
    record = {"conversation_a": said("hello", "fine"), "conversation_b": said("hello", "red"), "winner": "model_a"}

    assert refusal_of(tmp_path, jsonl(tmp_path / "a.jsonl", [record]))[1] == (
        "file:///a.jsonl looks like preference data (columns conversation_a, conversation_b, winner): sft learns one answer. Write "
        "the better one of conversation_a and conversation_b into a column messages, or set columns.messages to the one to learn"
    )


@pytest.mark.parametrize("label", ["label", "kto_tag"])
def test_conversations_with_a_verdict_are_unpaired_preference_data(tmp_path, label):
    """The rows whose verdict is false are there to be unlearned."""
    file = jsonl(tmp_path / "a.jsonl", [{"messages": said("hello", "fine"), label: True}])
    all_of_them = Dataset(location=at(file), format="messages")

    assert refusal_of(tmp_path, file)[1] == (
        f"file:///a.jsonl looks like unpaired preference data (columns messages, {label}) of good answers only, for no row "
        f"has {label} false: remove that column, or set format: messages"
    )
    assert rows_of(tmp_path, datasets=(all_of_them,)) == [CHAT_TEXT]


WARNED = [
    ({"text": "hello", "headline": "fine", "title": "x"},
     "headline in 1 (of 1 rows). Rows teach the text alone. To teach headline, set columns: {prompt: text, completion: headline}"),
    ({"text": "hello", "category": "fine"},
     "category in 1 (of 1 rows). Rows teach the text alone. To teach category, set columns: {prompt: text, completion: category}"),
    ({"problem": "hello", "solution": "red", "answer": "fine"},
     "solution in 1 (of 1 rows). Rows teach answer. If solution is the answer to learn, set columns: {completion: solution}"),
    ({"article": "red", "question": "hello", "answer": "fine"},
     'article in 1 (of 1 rows). If it is part of the question, set promptTemplate: "{article}\\n\\n{question}" in place of '
     "columns.prompt"),
    ({"question": "hello", "choices": ["red", "fine"], "answer": "fine"},
     'choices in 1 (of 1 rows). If it is part of the question, set promptTemplate: "{question}\\n\\n{choices.0}\\n{choices.1}" in '
     "place of columns.prompt"),
]  # fmt: skip


@pytest.mark.parametrize(("record", "warning"), WARNED, ids=[" ".join(record) for record, _ in WARNED])
def test_a_column_that_holds_a_part_of_the_example_is_named(tmp_path, record, warning):
    """With a remedy that fits its value: only text is joined by a template."""
    file = jsonl(tmp_path / "a.jsonl", [record])

    assert prepared_rows(a_request(file), tokenizer(), tmp_path / "work").warnings == (
        f"file://{file} holds data that is not used: {warning}",
    )


def test_a_column_that_writes_out_the_whole_row_is_not_missed(tmp_path):
    """Alpaca's own file has it: advice to join it would write the answer into the question."""
    record = {
        "instruction": "hello",
        "input": "",
        "output": "fine",
        "text": "### Instruction:\nhello\n\n### Response:\nfine",
    }

    assert (
        prepared_rows(a_request(jsonl(tmp_path / "a.jsonl", [record])), tokenizer(), tmp_path / "work").warnings == ()
    )


UNANSWERED = (
    "have no answer of the assistant, first a.jsonl row 1: nothing in them is learned. If a column holds the answer, name it by "
    "columns.completion, and the messages by columns.prompt, such as columns: {prompt: messages, completion: answer}"
)


def test_conversations_without_an_answer_are_counted(tmp_path):
    """Sets for reinforcement learning keep it elsewhere; named as advised, it is learned."""
    file = jsonl(tmp_path / "a.jsonl", [{"messages": said("hello"), "answer": "fine"}])
    followed = Dataset(location=at(file), columns=Columns(prompt="messages", completion="answer"))

    assert refusal_of(tmp_path, file) == (
        "DatasetInvalid",
        f"no token of the 1 rows would be trained within 64 tokens: 1 of 1 rows (100.0 %) {UNANSWERED}",
    )
    assert rows_of(tmp_path, datasets=(followed,)) == [CHAT_TEXT]


UNTITLED = [
    ("one column of texts with commas", 'text\n"hello, how"\n"fine, thanks"\n"red, blue"\n'),
    ("one column of texts with semicolons", "text\nhello;how\nfine;thanks\nred;blue\n"),
    ("an empty column at the end", "question,answer,\nhello,fine,\nhow,red,\nthanks,blue,\n"),
    ("the index of pandas", ",question,answer\n0,hello,fine\n1,how,red\n2,thanks,blue\n"),
    ("tabs, with commas in the answers", "question\tanswer\nhello\tfine, red\nhow\tred, blue\nthanks\tblue, red\n"),
]


@pytest.mark.parametrize(("kind", "content"), UNTITLED, ids=[kind for kind, _ in UNTITLED])
def test_a_first_line_of_names_is_no_title(tmp_path, kind, content):
    """The names are one word, or as many as the cells below them."""
    (tmp_path / "a.csv").write_text(content)

    assert len(rows_of(tmp_path, tmp_path / "a.csv")) == 3
