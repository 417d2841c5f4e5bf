"""Columns, keys and role words that a job names itself: a slip of the pen is refused with the name that was meant."""

import pytest
from finetune_contract import Columns, Dataset

from tests.trainer.data_inputs import a_request, at, jsonl, prepared_rows, refusal_of, rows_of, said, tokenizer

pytestmark = pytest.mark.usefixtures("local_files")

FINE = ("<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nfine<|im_end|>\n", "fine<|im_end|>")
QA = {"Question": "hello", "Answer": "fine", "Sys": "red"}
THEIRS = "Its columns are Question, Answer, Sys. Did you mean"
CHAT = {"messages": [{"wer": "a", "was": "hello"}, {"wer": "b", "was": "fine"}]}
AS_ROLES = {"a": "user", "b": "assistant"}


def named(file, **fields):
    """A data set of which the job names columns, roles or a template."""
    own = {key: fields.pop(key) for key in ("roles", "prompt_template", "format") if key in fields}
    return (Dataset(location=at(file), columns=Columns(**fields), **own),)


MISSPELT = [
    ("prompt", {"prompt": "Qestion", "completion": "Answer"}, "columns.prompt names Qestion, which no row has. "
     f"{THEIRS} Question?"),
    ("completion", {"prompt": "Question", "completion": "answr"}, f"columns.completion names answr, which no row has. {THEIRS} Answer?"),
    ("both", {"prompt": "question", "completion": "answr"},
     "columns.prompt names question, which no row has; columns.completion names answr, which no row has. "
     f"{THEIRS} Question and Answer?"),
    ("messages", {"messages": "chat"}, "columns.messages names chat, which no row has. Its columns are Question, Answer, Sys"),
    ("text", {"text": "Questions"}, f"columns.text names Questions, which no row has. {THEIRS} Question?"),
    ("system", {"system": "Syss"}, f"columns.system names Syss, which no row has. {THEIRS} Sys?"),
    ("another word for the same", {"prompt": "Question", "completion": "Sys_answer"}, "columns.completion names Sys_answer, which no row "
     f"has. {THEIRS} Answer?"),
    ("a placeholder", {"prompt_template": "{Qustion}"}, f"promptTemplate names Qustion, which no row has. {THEIRS} Question?"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "fields", "message"), MISSPELT, ids=[kind for kind, *_ in MISSPELT])
def test_a_column_that_no_row_has_is_refused_with_the_nearest_one(tmp_path, kind, fields, message):
    """In every field that names one."""
    file = jsonl(tmp_path / "a.jsonl", [QA] * 3)

    assert refusal_of(tmp_path, datasets=named(file, **fields)) == (
        "DatasetInvalid",
        f"file:///a.jsonl (3 rows): {message}",
    )


def test_a_column_that_only_later_rows_have_exists(tmp_path):
    """JSON leaves out keys that are optional."""
    file = jsonl(
        tmp_path / "a.jsonl",
        [{"prompt": "hello", "completion": "fine"}, {"prompt": "hello", "completion": "x", "own": "red"}],
    )
    found = rows_of(tmp_path, datasets=named(file, system="own"))

    assert [text.startswith("<|im_start|>system\nred") for text, _ in found] == [False, True]


def test_a_first_row_without_the_named_column_is_a_row_that_cannot_be_used(tmp_path):
    """The others show that the column exists."""
    file = jsonl(tmp_path / "a.jsonl", [{"x": 1}, {"q": "hello", "a": "fine"}])

    assert refusal_of(tmp_path, datasets=named(file, prompt="q", completion="a")) == (
        "DatasetInvalid",
        "file:///a.jsonl: 1 of 2 rows cannot be used: its q and a are empty or missing; the row has x (a.jsonl row 1). Correct or remove "
        "them, or skip them with datasets[].invalidRows: {action: skip, maxPercent: 50}",
    )


def test_a_corpus_whose_first_row_is_empty_is_counted(tmp_path):
    """Not a traceback."""
    file = jsonl(tmp_path / "a.jsonl", [{"text": None}, {"text": "hello"}])

    assert refusal_of(tmp_path, file, objective="cpt")[1].startswith(
        "file:///a.jsonl: 1 of 2 rows cannot be used: its text is empty"
    )


def test_plain_text_has_no_system_prompt(tmp_path):
    """It would be left out in silence."""
    file = jsonl(tmp_path / "a.jsonl", [QA])

    assert refusal_of(tmp_path, datasets=named(file, text="Question", system="Sys"))[1] == (
        "file:///a.jsonl: columns.system names Sys, but its rows are plain text (column Question), which has no system prompt: remove "
        "columns.system, or name the question and the answer in columns.prompt and columns.completion"
    )


KEYS = [
    ({"role": "were", "content": "was"}, "message 1 has no were, which columns.role names (its keys: wer, was). Did you mean wer?"),
    ({"role": "wer", "content": "wass"}, "message 1 has no wass, which columns.content names (its keys: wer, was). Did you mean was?"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "message"), KEYS, ids=["role", "content"])
def test_a_key_that_a_message_lacks_is_named(tmp_path, fields, message):
    """With the keys that it has."""
    file = jsonl(tmp_path / "a.jsonl", [CHAT])

    assert (
        refusal_of(tmp_path, datasets=named(file, roles=AS_ROLES, **fields))[1]
        == f"file:///a.jsonl: a.jsonl row 1: {message}"
    )


def test_a_key_of_messages_is_of_no_use_without_messages(tmp_path):
    """Texts have no keys."""
    file = jsonl(tmp_path / "a.jsonl", [QA])

    assert refusal_of(tmp_path, datasets=named(file, role="wer"))[1] == (
        "file:///a.jsonl: columns.role names wer, but its rows hold no messages with keys: remove it, or name the column of the messages "
        "in columns.messages"
    )


def test_a_role_word_that_nobody_says_is_told(tmp_path):
    """Where the real word is known by itself, the job's own mapping would have no effect in silence."""
    file = jsonl(
        tmp_path / "a.jsonl",
        [{"messages": [{"role": "customer", "content": "hello"}, {"role": "bot", "content": "fine"}]}],
    )
    datasets = named(file, roles={"Customr": "user", "bot": "assistant"})

    assert prepared_rows(a_request(datasets=datasets), tokenizer(), tmp_path / "work").warnings == (
        f"file://{file}: datasets[].roles names Customr, which no message has: correct or remove it. Did you mean customer?",
    )


def test_an_unknown_role_beside_a_misspelt_mapping_names_both(tmp_path):
    """Whoever mapped it sees the difference."""
    file = jsonl(tmp_path / "a.jsonl", [{"messages": [{"role": "Kunde", "content": "hello"}, *said("", "fine")[1:]]}])

    assert refusal_of(tmp_path, datasets=named(file, roles={"Kunden": "user"}))[1] == (
        "file:///a.jsonl: a.jsonl row 1: message 1 has the role 'Kunde', which is unknown: map it with datasets[].roles, such as "
        "roles: {user: [\"Kunde\"]} (the job maps 'Kunden' instead)"
    )


INNER = [
    ("an object", {"translation": {"en": "hello", "fr": "fine"}}, {"prompt": "translation.en", "completion": "translation.fr"}),
    ("a list", {"question": "hello", "answers": {"text": ["fine"], "answer_start": [3]}}, {"completion": "answers.text.0"}),
    ("JSON in a cell", {"question": "hello", "meta": '{"answer": "fine"}'}, {"completion": "meta.answer"}),
    ("a placeholder", {"in": {"q": "hello"}, "answer": "fine"}, {"prompt_template": "{in.q}"}),
    ("a name with a dot", {"q.x": "hello", "answer": "fine"}, {"prompt": "q.x"}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "record", "fields"), INNER, ids=[kind for kind, *_ in INNER])
def test_a_name_with_dots_leads_into_a_column(tmp_path, kind, record, fields):
    """Translations and SQuAD keep their texts there."""
    datasets = named(jsonl(tmp_path / "a.jsonl", [record]), **fields)

    assert rows_of(tmp_path, datasets=datasets) == [FINE]
    assert prepared_rows(a_request(datasets=datasets), tokenizer(), tmp_path / "again").warnings == ()


def test_a_misspelt_name_inside_a_column_is_refused(tmp_path):
    """With what lies inside."""
    datasets = named(
        jsonl(tmp_path / "a.jsonl", [{"translation": {"en": "hello", "fr": "fine"}}]),
        prompt="translation.eng",
        completion="translation.fr",
    )

    assert refusal_of(tmp_path, datasets=datasets)[1] == (
        "file:///a.jsonl: columns.prompt names translation.eng, which no row has. Its columns are translation, translation.fr, "
        "translation.en. Did you mean translation.en?"
    )
