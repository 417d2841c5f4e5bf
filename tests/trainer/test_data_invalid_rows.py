"""Rows that cannot be used: all are counted by reason, and left out where the job says so."""

import json

import pytest
from finetune_contract import Columns, Dataset, Evaluation
from finetune_trainer.data.invalid_rows import LONGEST_TOLD, MOST_KINDS, InvalidRows

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
    good = [json.dumps({"prompt": f"hello {n}", "completion": f"fine {n}"}) for n in range(40)]
    (tmp_path / "a.jsonl").write_text("\n".join([*BAD, *good]) + "\n")
    return tmp_path / "a.jsonl"


FAULTS = (
    "4 of 44 rows cannot be used: 2 because its completion is empty or missing; the row has prompt, completion (a.jsonl rows 1, "
    "3); 1 because it is not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1), near `{broken`): "
    "correct or remove that line (a.jsonl row 2); 1 because its prompt is the number 4, not text: write numbers as text (in quotes in "
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


def test_everything_that_is_wrong_with_a_row_is_told_at_once(tmp_path):
    """Who mends a role must not be sent back for the text, the tools and the system prompt of the same row."""
    turns = [{"role": "user", "content": 4}, {"role": "Dr. X", "content": "hello"}, {"role": "assistant", "content": 5}]
    file = jsonl(
        tmp_path / "a.jsonl", [{"messages": turns, "tools": 3, "system": 2}, {"messages": said("hello", "fine")}]
    )
    roles = "message 2 has the role 'Dr. X', which is unknown: map it with datasets[].roles, such as roles: {user: [\"Dr. X\"]}"

    assert refusal_of(tmp_path, file)[1].split(" cannot be used: ")[1] == (
        f"1 because {roles} (a.jsonl row 1); 1 because message 1 has content that is the number 4, not text (a.jsonl row 1); 1 "
        "because its system prompt is the number 2, not text (a.jsonl row 1); 1 because its tools are the number 3, not a list of "
        'tools: write each as {"type": "function", "function": {"name": ..., "description": ..., "parameters": {...}}} in a list, or '
        "rename the column to train without it (a.jsonl row 1). Correct or remove them, or skip them with datasets[].invalidRows: "
        "{action: skip, maxPercent: 50}"
    )


def test_rows_that_cannot_be_read_and_rows_that_the_template_refuses_are_one_refusal(tmp_path):
    """Whether a row fails before or after the template is nothing that its owner knows, nor in which data set."""
    template = (
        "{% for m in messages %}{{ raise_exception('no') if m.content == 'boom' else m.content }}<|im_end|>{% endfor %}"
    )
    rows = [{"messages": said("hello", "boom")}, {"messages": []}, {"messages": said("hello", "fine")}]
    first = jsonl(tmp_path / "a.jsonl", rows)
    other = jsonl(
        tmp_path / "b.jsonl", [{"prompt": "hello", "completion": None}, {"prompt": "how", "completion": "red"}]
    )

    assert refusal_of(tmp_path, first, other, words=tokenizer(template)) == (
        "DatasetInvalid",
        "file:///a.jsonl: 2 of 3 rows cannot be used: 1 because its messages are not a list with at least one message (a.jsonl row "
        "2); 1 because the chat template refuses it: no; "
        "correct or remove such rows, or set chat.template: chatml (a.jsonl row 1). Correct or remove them. file:///b.jsonl: 1 of "
        "2 rows cannot be used: its completion is empty or missing; the row has prompt, completion (b.jsonl row 1). Correct or remove "
        "them, or skip them with datasets[].invalidRows: {action: skip, maxPercent: 50}",
    )


def test_the_first_places_of_a_fault_are_told_in_all_files(tmp_path):
    """The first three of the data set, not of the first file."""
    (tmp_path / "data").mkdir()
    good = {"prompt": "hello", "completion": "fine"}
    for name in ("a.jsonl", "b.jsonl", "c.jsonl"):
        jsonl(
            tmp_path / "data" / name,
            [good, {"prompt": "how", "completion": None}, {"prompt": "how", "completion": None}],
        )

    assert "6 of 9 rows cannot be used: its completion is empty or missing; the row has prompt, completion (a.jsonl rows 2, 3, " \
        "b.jsonl row 2 ...)" in refusal_of(tmp_path, tmp_path / "data")[1]  # fmt: skip


def test_faults_of_many_kinds_are_bounded_in_memory_and_in_the_message():
    """Rows of another file may be wrong in as many ways as there are rows."""
    invalid = InvalidRows("file:///a.jsonl", skip=False, max_percent=10)
    invalid.seen = 100_001
    for number in range(100_000):
        letters = "".join(chr(97 + int(digit)) for digit in str(number))
        invalid.add("a.jsonl", number, [f"its {letters} is not known"])

    message = invalid.refusal()
    assert len(invalid._faults) == MOST_KINDS + 1
    assert message.startswith(
        "file:///a.jsonl: 100000 of 100001 rows cannot be used: 99800 because they are wrong in other ways: correct or remove them "
        "(a.jsonl rows 200, 201, 202 ...); 1 because its a is not known (a.jsonl row 0)"
    )
    assert (message.endswith("for other reasons. Correct or remove them"), len(message) < LONGEST_TOLD + 300) == (
        True,
        True,
    )


def test_names_and_values_of_a_row_do_not_make_its_fault_another_one(tmp_path):
    """What is wrong is the same, whatever the keys, the parts and the other columns are."""
    turns = [{"role": "user", "content": [{"type": kind}]} for kind in ("image", "audio", "video", "file")]
    missing = [{"messages": None, name: 1} for name in "abc"]
    rows = [*({"messages": [turn]} for turn in turns), *missing, *({"messages": [{name: 1}]} for name in "xyz")]
    file = jsonl(tmp_path / "a.jsonl", [{"messages": said("hello", "fine")}, *rows])

    assert refusal_of(tmp_path, file)[1].split(" cannot be used: ")[1] == (
        '4 because message 1 holds image: only parts such as {"type": "text", "text": ...} are trained, so remove the others, or such '
        "rows (a.jsonl rows 2, 3, 4 ...); 3 because its messages is empty or missing; the row has messages, a (a.jsonl rows 6, 7, 8); 3 "
        "because message 1 has no role (its keys: x): name the key that holds it in columns.role (a.jsonl rows 9, 10, 11). Correct or "
        "remove them"
    )
