"""Columns of codes, dates and a few words beside a question: none of them is suggested as its answer."""

import pytest
from finetune_contract import Columns, Dataset

from tests.trainer.data_inputs import a_request, at, jsonl, prepared_rows, refusal_of, rows_of, tokenizer

pytestmark = pytest.mark.usefixtures("local_files")

HAS = "but a column with messages, or a prompt and a completion, or text is needed: "
WRITE = (
    "To learn one of them all the same, name it in columns.completion; else write the answer of each row into a column completion, and set "
    "columns: {prompt: query, completion: completion}"
)
CODES = [
    ("few words", ["app", "web", "app", "app", "kiosk", "web"], "only 3 different texts (app, web, kiosk)"),
    ("one word", ["open"] * 6, "the same text in every row (open)"),
    ("dates", [f"2026-03-0{day}" for day in range(1, 7)], "numbers, dates, ids or addresses"),
    ("ids", [f"T-100{number}" for number in range(6)], "numbers, dates, ids or addresses"),
    ("addresses", [f"https://shop.test/{number}" for number in range(6)], "numbers, dates, ids or addresses"),
    ("who speaks", ["user", "assistant"] * 3, "who speaks"),
]


@pytest.mark.parametrize(("kind", "values", "what"), CODES, ids=[kind for kind, *_ in CODES])
def test_a_column_of_codes_is_not_suggested_as_the_answer(tmp_path, kind, values, what):
    """Taken as written it would be learned as the answer to every question."""
    rows = [{"query": f"how {number}", "channel": value} for number, value in enumerate(values)]

    assert refusal_of(tmp_path, jsonl(tmp_path / "a.jsonl", rows))[1] == (
        f"file:///a.jsonl (6 rows) has the columns query, channel, {HAS}none of them looks like answers (channel holds {what}). {WRITE}"
    )


def test_codes_beside_an_answer_do_not_hide_it(tmp_path):
    """Two columns of sentences are left, so they are the pair."""
    rows = [
        {"query": f"how {number}", "channel": ("app", "web")[number % 2], "agent": f"fine {number} thanks"}
        for number in range(6)
    ]
    file = jsonl(tmp_path / "a.jsonl", rows)
    followed = Dataset(location=at(file), columns=Columns(prompt="query", completion="agent"))

    assert refusal_of(tmp_path, file)[1].endswith(
        "such as columns: {prompt: query, completion: agent}, if agent holds the answers"
    )
    assert next(learned for _, learned in rows_of(tmp_path, datasets=(followed,))) == "fine 0 thanks<|im_end|>"


def test_a_class_is_suggested_with_what_it_holds(tmp_path):
    """Its name says that it is one; whether to learn it is for the user to say."""
    rows = [{"query": f"how {number}", "category": ("red", "blue")[number % 2]} for number in range(6)]

    assert refusal_of(tmp_path, jsonl(tmp_path / "a.jsonl", rows))[1].endswith(
        "such as columns: {prompt: query, completion: category}; category holds only 2 different texts (red, blue)"
    )


def test_who_speaks_is_no_answer_to_a_text(tmp_path):
    """One message in each row, learned as plain text: the warning offers no pair without sense."""
    rows = [{"role": ("prompter", "assistant")[number % 2], "text": f"hello {number}"} for number in range(4)]
    dataset = Dataset(location=at(jsonl(tmp_path / "a.jsonl", rows)), columns=Columns(text="text"))

    (warning,) = prepared_rows(a_request(datasets=(dataset,)), tokenizer(), tmp_path / "work").warnings
    assert warning.endswith(
        "holds data that is not used: role in 4 (of 4 rows). Rows teach the text alone: add what matters to it"
    )


def test_the_name_of_a_user_is_no_question(tmp_path):
    """Sentiment140 has user and target beside its text; a text that somebody asks in that column is read as before."""
    rows = [{"target": ("0", "4")[n % 2], "user": f"maria{n}", "text": f"hello red {n}"} for n in range(6)]
    file = jsonl(tmp_path / "a.jsonl", rows)
    asked = jsonl(
        tmp_path / "b.jsonl", [{"user": "hello", "assistant": "fine"}, {"user": "how are you", "output": "fine"}]
    )

    (warning,) = prepared_rows(a_request(file), tokenizer(), tmp_path / "work").warnings
    assert warning == (
        f"file://{file} holds data that is not used: target in 6, user in 6 (of 6 rows). Rows teach the text alone. To teach target, set "
        "columns: {prompt: text, completion: target}; target holds numbers: write names in place of them if they stand for classes"
    )
    assert [learned for _, learned in rows_of(tmp_path, asked)] == ["fine<|im_end|>"] * 2


def test_sentences_under_the_name_of_a_class_are_not_suggested_as_the_answer(tmp_path):
    """CoNaLa's intent asks for its snippet: the other way round the model would learn to describe code."""
    row = {"intent": "how are you red", "rewritten_intent": "how are you red and blue", "snippet": "fine thanks"}

    assert refusal_of(tmp_path, jsonl(tmp_path / "a.jsonl", [row]))[1] == (
        f"file:///a.jsonl has the columns intent, rewritten_intent, snippet, {HAS}their names do not say which is the answer. If one is, "
        "set columns: {prompt: ..., completion: ...} with the names of the question and the answer, else write it into a column completion"
    )


def test_both_questions_are_part_of_what_is_asked_of_the_two(tmp_path):
    """Quora's pairs: whether one repeats the other cannot be told from one of them."""
    row = {"id": 1, "question1": "how are you", "question2": "how red are you", "is_duplicate": 0}

    assert refusal_of(tmp_path, jsonl(tmp_path / "a.jsonl", [row]))[1].endswith(
        "is_duplicate is the number 0: write it as text, or the name of the class that it stands for, into a column completion in place of "
        'is_duplicate, and set columns: {completion: completion} and promptTemplate: "{question1}\\n\\n{question2}"'
    )


def test_a_title_beside_a_body_may_be_either(tmp_path):
    """Of Reddit's jokes the title asks, of its posts the body."""
    row = {"id": 1, "title": "how", "body": "fine", "score": 3}

    assert refusal_of(tmp_path, jsonl(tmp_path / "a.jsonl", [row]))[1].endswith(
        "such as columns: {prompt: body, completion: title}, or the other way round"
    )


def test_an_abstract_beside_its_title_may_be_either(tmp_path):
    """Titles are written for abstracts as often as the other way round."""
    row = {"abstract": "how are you", "title": "red and blue"}

    assert refusal_of(tmp_path, jsonl(tmp_path / "a.jsonl", [row]))[1].endswith(
        "such as columns: {prompt: title, completion: abstract}, or the other way round"
    )
