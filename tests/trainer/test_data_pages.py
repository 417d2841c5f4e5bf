"""What exports of forums and wikis hold beside the question: titles, tags and entities of HTML."""

import pytest

from tests.trainer.data_inputs import a_request, jsonl, prepared_rows, tokenizer

pytestmark = pytest.mark.usefixtures("local_files")

REMEDY = (
    "the model learns to write it. Take the tags out and turn the entities into characters (get_text of the Python package beautifulsoup4 "
    "does both), unless answers are to be HTML"
)


def warnings_of(folder, rows):
    """What is warned of these rows, without the folder."""
    prepared = prepared_rows(a_request(jsonl(folder / "a.jsonl", rows)), tokenizer(), folder / "work")
    return [warning.replace(str(folder), "") for warning in prepared.warnings]


def test_a_title_of_several_words_is_named(tmp_path):
    """That of a thread is part of the question; one or two words name an article, a book or a person."""
    rows = [{"title": f"how to be red {n}", "question": f"hello {n}", "answer": f"fine {n}"} for n in range(3)]
    short = [{"title": "Red", "question": f"hello {n}", "answer": f"fine {n}"} for n in range(3)]

    assert warnings_of(tmp_path, rows) == [
        "file:///a.jsonl holds data that is not used: title in 3 (of 3 rows). Rows are trained without it: add it to the question or the "
        "answer if it matters"
    ]
    assert warnings_of(tmp_path, short) == []


def test_a_title_is_not_offered_as_the_answer_to_its_text(tmp_path):
    """Wikipedia as plain text."""
    rows = [{"title": f"history of red {n}", "text": f"hello {n}"} for n in range(3)]

    assert warnings_of(tmp_path, rows) == [
        "file:///a.jsonl holds data that is not used: title in 3 (of 3 rows). Rows teach the text alone: add what matters to it"
    ]


def test_tags_and_entities_of_html_are_counted(tmp_path):
    """With some of them; a page that is asked for and fenced code are meant to hold them."""
    rows = [
        {"prompt": "hello", "completion": "<p>fine &amp; red</p>"},
        {"prompt": "doesn&#39;t", "completion": "fine"},
        {"prompt": "write a page", "completion": "<html><body><p>red</p></body></html>"},
        {"prompt": "how", "completion": "```html\n<p>red</p>\n```"},
        {"prompt": "which tag", "completion": "The tag `<p>`, as in `<p>red</p>`"},
        {"prompt": "a < b", "completion": "if a <b and c> d: red & blue"},
    ]

    assert warnings_of(tmp_path, rows) == [
        f"2 of 6 rows (33.3 %) hold HTML (<p>, &amp;, </p>, &#39;), first a.jsonl row 1: {REMEDY}"
    ]
