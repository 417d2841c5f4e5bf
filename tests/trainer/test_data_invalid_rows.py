"""Rows that cannot be used: all are counted by reason, and left out where the job says so."""

import json

import pytest
from finetune_contract import Columns, Dataset, Evaluation

from tests.trainer.data_inputs import a_request, at, jsonl, prepared_rows, refusal_of, rows_of, said, tokenizer

pytestmark = pytest.mark.usefixtures("local_files")


def skipping(file, percent=10):
    """A data set whose invalid rows are left out."""
    return Dataset(location=at(file), invalid_rows="skip", invalid_max_percent=percent)


BAD = [
    '{"prompt": "x", "completion": null}',
    "{broken",
    '{"prompt": "x", "completion": null}',
    '{"prompt": 4, "completion": "y"}',
]


@pytest.fixture
def mostly_good(tmp_path):
    """Forty good rows, and four that cannot be used for three reasons."""
    good = [json.dumps({"prompt": f"hello {n}", "completion": "fine"}) for n in range(40)]
    (tmp_path / "a.jsonl").write_text("\n".join([*BAD, *good]) + "\n")
    return tmp_path / "a.jsonl"


FAULTS = (
    "4 of 44 rows cannot be used: 2 because its completion is empty or missing; the row has prompt, completion (a.jsonl rows 1, "
    "3); 1 because it is not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)): correct or remove "
    "that line (a.jsonl row 2); 1 because its prompt is the number 4, not text: write numbers as text (in quotes in "
    "JSON, astype(str) in pandas), "
    "and classes by their names, or list these in datasets[].classNames "
    "(a.jsonl row 4)"
)


def test_all_rows_that_cannot_be_used_are_counted_by_reason(tmp_path, mostly_good):
    """Nobody wants to find them one by one; what the message advises works."""
    assert refusal_of(tmp_path, mostly_good) == (
        "DatasetInvalid",
        f"file:///a.jsonl: {FAULTS}. Correct or remove them, or skip them with datasets[].invalidRows: {{action: skip}}",
    )
    skipped = prepared_rows(a_request(datasets=(skipping(mostly_good),)), tokenizer(), tmp_path / "work")
    assert (skipped.train.rows, skipped.warnings) == (
        40, (f"file://{mostly_good}: {FAULTS}; they are skipped (invalidRows.action: skip)",)
    )  # fmt: skip


def test_more_invalid_rows_than_allowed_are_refused(tmp_path, mostly_good):
    """A file that is mostly broken is not the data somebody meant."""
    reason, message = refusal_of(tmp_path, datasets=(skipping(mostly_good, 9),))

    assert (reason, message.rsplit("; ", 1)[-1]) == (
        "DatasetInvalid", "invalidRows.maxPercent allows 9 %: correct or remove them, or set it to 10"
    )  # fmt: skip
    assert len(rows_of(tmp_path, datasets=(skipping(mostly_good, 10),))) == 40


def test_rows_that_the_template_refuses_are_left_out_too(tmp_path):
    """In training rows and in held-out ones."""
    template = (
        "{% for m in messages %}{{ raise_exception('no') if m.content == 'boom' else m.content }}<|im_end|>{% endfor %}"
    )
    rows = [{"messages": said(f"hello {n}", "boom" if n % 20 == 0 else "fine")} for n in range(60)]
    file = jsonl(tmp_path / "a.jsonl", rows)
    request = a_request(datasets=(skipping(file),), evaluation=Evaluation(fraction=0.2))

    prepared = prepared_rows(request, tokenizer(template), tmp_path / "work")

    assert prepared.train.rows + prepared.evaluation_rows == 57
    assert "3 of 60 rows cannot be used: the chat template refuses it: no" in " ".join(prepared.warnings)


OPTIONS = {"opa": "red", "opb": "green", "opc": "blue", "opd": "how"}


def classes(file, names, **changes):
    """The numbers in a column cop as classes."""
    return Dataset(
        location=at(file), columns=Columns(prompt="question", completion="cop"), class_names=names, **changes
    )


def test_numbers_of_classes_from_1_are_never_skipped(tmp_path):
    """Without the row of the last class all others would be learned with the name of the next one; what is named works."""
    file = jsonl(tmp_path / "a.jsonl", [{"question": f"hello {n}", "cop": n} for n in (1, 2, 3, 4)])
    told = (
        "file:///a.jsonl: 1 of 4 rows cannot be used: its cop is 4, but classNames has 4 names, for 0 to 3: if the numbers begin at 1, "
        "each has the name of the next one, so put a name for 0 before them, such as unused; else add the last name (a.jsonl row 4)"
    )
    skipping = classes(file, ("A", "B", "C", "D"), invalid_rows="skip", invalid_max_percent=50)
    corrected = classes(file, ("unused", "A", "B", "C", "D"))

    assert refusal_of(tmp_path, datasets=(classes(file, ("A", "B", "C", "D")),)) == ("DatasetInvalid", told)
    assert refusal_of(tmp_path, datasets=(skipping,)) == ("DatasetInvalid", told)
    learned = [answer.removesuffix("<|im_end|>") for _, answer in rows_of(tmp_path, datasets=(corrected,))]
    assert sorted(learned) == ["A", "B", "C", "D"]


def test_a_row_without_a_class_may_be_skipped(tmp_path):
    """Some write -1 for it, which says nothing about the others."""
    file = jsonl(tmp_path / "a.jsonl", [{"question": f"hello {n}", "cop": n} for n in (0, 1, -1)])

    assert refusal_of(tmp_path, datasets=(classes(file, ("A", "B")),))[1] == (
        "file:///a.jsonl: 1 of 3 rows cannot be used: its cop is -1, but classNames has 2 names, for 0 to 1: a negative number most "
        "often stands for no class (a.jsonl row 3). Correct or remove them, or skip them with datasets[].invalidRows: {action: skip, "
        "maxPercent: 34}"
    )


def test_a_number_that_points_at_a_choice_is_told_with_the_choices(tmp_path):
    """MedMCQA: cop says which of opa to opd is right."""
    file = jsonl(tmp_path / "a.jsonl", [{"question": "hello", "cop": 1, **OPTIONS}])
    named = Dataset(location=at(file), columns=Columns(prompt="question", completion="cop"))

    assert refusal_of(tmp_path, datasets=(named,))[1] == (
        "file:///a.jsonl: a.jsonl row 1: its cop is the number 1: it only says which of opa, opb, opc, opd is right, so write the text "
        "of that one into a column completion, and set columns: {completion: completion} and promptTemplate: "
        '"{question}\\n\\na. {opa}\\nb. {opb}\\nc. {opc}\\nd. {opd}"'
    )
