"""Held-out rows become questions, and what no metric could judge is refused by preflight, in words."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from finetune_contract import Dataset, Evaluation, Metric
from finetune_trainer.data.request import DataRequest
from finetune_trainer.errors import UserError
from finetune_trainer.evaluation.questions import Question, read_questions

from tests.trainer.data_inputs import a_request, at, chats, jsonl, loaded, model, prepared_rows, said, tokenizer

pytestmark = pytest.mark.usefixtures("local_files")

TOOLS = (
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] or '' }}{% for c in m.tool_calls or [] %}"
    "<tool_call>{{ {'name': c.function.name, 'arguments': c.function.arguments} | tojson }}</tool_call>{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def measured(file: Path, *metrics: Metric, **changes: Any) -> DataRequest:
    """A request that holds out half of its rows for these metrics."""
    evaluation = Evaluation(**({"fraction": 0.5, "metrics": metrics} | changes))
    return a_request(file, evaluation=evaluation)


def asked(request: DataRequest, folder: Path, words: Any = None) -> list[Question]:
    """What models are asked."""
    prepared = prepared_rows(request, words or loaded(model(folder / "model")), folder)
    return read_questions(prepared.folder / "questions.jsonl")


def metric(kind: str, **settings: Any) -> Metric:
    return Metric(name=kind, type=kind, **settings)


def test_a_chat_is_asked_up_to_its_last_answer(tmp_path: Path):
    """Through the template, with everything before; the reference is the answer as it is written."""
    rows = [{"messages": said(f"hello {n}", "fine", f"how are you {n}", f"thanks {n}")} for n in range(12)]
    words = loaded(model(tmp_path / "m"))
    questions = asked(measured(jsonl(tmp_path / "d.jsonl", rows), metric("exactMatch")), tmp_path, words)

    assert len(questions) == 6
    for question in questions:
        number = question.reference.removeprefix("thanks ")
        assert words.decode(question.prompt) == (
            f"<|im_start|>user\nhello {number}<|im_end|>\n<|im_start|>assistant\nfine<|im_end|>\n"
            f"<|im_start|>user\nhow are you {number}<|im_end|>\n<|im_start|>assistant\n"
        )
        assert question.rows == -1
        assert question.place.startswith("d.jsonl row ")


def test_plain_pairs_are_asked_without_a_template(tmp_path: Path):
    """A base model continues the prompt; labels follow it with the white space of the data."""
    rows = [{"prompt": f"hello {n}:", "completion": " red" if n % 2 else " blue"} for n in range(12)]
    words = tokenizer(None, eos="<|endoftext|>")
    base = loaded(model(tmp_path / "m", made=words, stops=[2]))
    questions = asked(measured(jsonl(tmp_path / "d.jsonl", rows), metric("label")), tmp_path, base)

    assert {question.reference for question in questions} <= {"red", "blue"}
    for question in questions:
        whole = {label: base.decode([*question.stem, *ids]) for label, ids in question.labels.items()}
        prompt = base.decode(question.prompt)
        assert whole == {"blue": f"{prompt} blue<|endoftext|>", "red": f"{prompt} red<|endoftext|>"}


def test_labels_are_those_of_all_rows_in_the_chats_own_words(tmp_path: Path):
    """A label that no held-out row happens to have is a choice all the same."""
    rows = [{"messages": said(f"hello {n}", "green" if n == 7 else ("red", "blue")[n % 2])} for n in range(40)]
    words = loaded(model(tmp_path / "m"))
    questions = asked(measured(jsonl(tmp_path / "d.jsonl", rows), metric("label"), fraction=0.1), tmp_path, words)

    assert {tuple(question.labels) for question in questions} == {("blue", "green", "red")}
    question = questions[0]
    assert (
        words.decode([*question.stem, *question.labels["green"]]) == words.decode(question.prompt) + "green<|im_end|>\n"
    )


def test_rows_of_another_source_are_asked_and_never_trained(tmp_path: Path):
    """Forgetting is measured on rows of its own; one that is also in the training data is taken out of it."""
    other = jsonl(tmp_path / "other.jsonl", chats(4))
    request = measured(
        jsonl(tmp_path / "d.jsonl", chats(40)), Metric(name="kept", type="contains", source=Dataset(location=at(other)))
    )
    prepared = prepared_rows(request, loaded(model(tmp_path / "m")), tmp_path)
    questions = read_questions(prepared.folder / "questions.jsonl")

    assert [question.rows for question in questions] == [0] * 4
    assert "4 training rows are also in the evaluation sources: they are not trained" in prepared.warnings
    assert prepared.generated_answers == 4


def called(name: str, **arguments: int) -> dict[str, Any]:
    """A call as chat data has it."""
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def calls(count: int) -> list[dict[str, Any]]:
    """Questions that are answered by a call, its result and a sentence."""
    tools = [
        {
            "type": "function",
            "function": {"name": "add", "description": "d", "parameters": {"type": "object", "properties": {}}},
        }
    ]
    return [
        {
            "messages": [
                {"role": "user", "content": f"hello {n}"},
                {"role": "assistant", "content": "", "tool_calls": [called("add", n=n)]},
                {"role": "tool", "content": "fine"},
                {"role": "assistant", "content": f"thanks {n}"},
            ],
            "tools": tools,
        }
        for n in range(count)
    ]  # fmt: skip


def test_a_tool_call_is_what_is_asked_for(tmp_path: Path):
    """Not the sentence after its result; and the template's own words were read back before the run."""
    base = loaded(model(tmp_path / "m", made=tokenizer(TOOLS)))
    questions = asked(measured(jsonl(tmp_path / "d.jsonl", calls(12)), metric("toolCall")), tmp_path, base)

    assert all(question.calls[0]["name"] == "add" for question in questions)
    assert all(base.decode(question.prompt).endswith("<|im_start|>assistant\n") for question in questions)


REFUSED = [
    ([{"prompt": f"p {n}", "completion": "four"} for n in range(10)], metric("numeric"),
     "evaluation.metrics numeric: 5 of 5 rows have no number in their answer (first d.jsonl row {}: 'four'): use another type, or "
     "correct the rows"),
    ([{"prompt": f"p {n}", "completion": f"a{n}"} for n in range(120)], metric("label"),
     "evaluation.metrics label: the rows have more than 50 different answers (first 'a0'), so they are not labels: list them in labels, "
     "or use type exactMatch"),
    ([{"prompt": f"p {n}", "completion": "red"} for n in range(10)], metric("label", labels=("blue", "green")),
     "evaluation.metrics label: 5 of 5 rows have an answer that is not in labels (first d.jsonl row {}: 'red'): add it to labels, or "
     "correct the rows"),
    ([{"prompt": f"p {n}", "completion": "red"} for n in range(10)], metric("json", equal=True),
     "evaluation.metrics json: 5 of 5 rows have an answer that is not JSON (first d.jsonl row {}: 'red'): set values to any, or correct "
     "the rows"),
    ([{"prompt": f"p {n}", "completion": "red"} for n in range(10)], metric("regex", pattern="x(y)"),
     "evaluation.metrics regex: 5 of 5 rows have an answer in which pattern finds nothing (first d.jsonl row {}: 'red'): correct the "
     "pattern"),
    ([{"prompt": f"p {n}", "completion": "red"} for n in range(10)], metric("toolCall"),
     "evaluation.metrics toolCall: no row calls a tool: use another type, or correct the rows"),
    ([{"prompt": f"p {n}", "completion": "red"} for n in range(10)], metric("regex", pattern="("),
     "evaluation.metrics regex: pattern is not valid: missing ) at position 1"),
    ([{"prompt": f"p {n}", "completion": "red"} for n in range(10)], metric("json", schema='{"type": "thing"}'),
     "evaluation.metrics json: schema is not a JSON Schema: 'thing' is not valid under any of the given schemas"),
    ([{"prompt": f"p {n}", "completion": "red"} for n in range(10)], metric("json", schema='{"$ref": "https://a.b/c.json"}'),
     "evaluation.metrics json: schema refers to https://a.b/c.json, which is not fetched: write that part out"),
    ([{"prompt": f"p {n}", "completion": "red"} for n in range(10)], metric("json", schema='{"$\\u0072ef": "http://169.254.169.254/latest"}'),
     'evaluation.metrics json: schema refers to http://169.254.169.254/latest, which is not fetched: write that part out'),
    ([{"prompt": f"p {n}", "completion": "red"} for n in range(10)], metric("json", schema='{"items": [{"$dynamicRef": "file:///etc/passwd"}]}'),
     'evaluation.metrics json: schema refers to file:///etc/passwd, which is not fetched: write that part out'),
    ([{"prompt": f"p {n}", "completion": "red"} for n in range(10)], metric("json", schema='{"$ref": "#/nowhere"}'),
     'evaluation.metrics json: schema refers to #/nowhere, which it does not hold: add it, or correct the name'),
    ([{"prompt": f"p {n}", "completion": "red"} for n in range(10)], metric("json", schema='{"$ref": "#"}'),
     'evaluation.metrics json: schema is nested too deeply, or refers to itself without end: correct it'),
    ([{"text": f"hello {n}"} for n in range(10)], metric("exactMatch"),
     "evaluation.metrics exactMatch needs held-out rows with a prompt and an answer, but there are 0: name the columns of "
     "both in columns.prompt and columns.completion, add rows, raise evaluation.fraction or remove the metric"),
    ([{"prompt": f"p {n}", "completion": "red"} for n in range(10)], metric("label"),
     "evaluation.metrics label: all rows have the same answer ('red'), so there is nothing to tell apart: list labels, or add rows"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "judged", "message"), REFUSED)
def test_what_cannot_be_judged_is_refused(tmp_path: Path, rows: list[Any], judged: Metric, message: str):
    """A metric that no answer could meet would say 0 of both models."""
    with pytest.raises(UserError) as refused:
        asked(measured(jsonl(tmp_path / "d.jsonl", rows), judged), tmp_path)

    first = refused.value.message.partition("row ")[2].partition(":")[0].strip()
    assert refused.value.message == message.format(first)


def test_answers_that_leave_no_room_are_refused(tmp_path: Path):
    """The model has 512 positions; what is advised works."""
    file = jsonl(tmp_path / "d.jsonl", chats(20))
    with pytest.raises(UserError) as refused:
        asked(measured(file, metric("rougeL"), max_answer_tokens=600), tmp_path)

    assert refused.value.message == (
        "evaluation.metrics rougeL: 10 of 10 rows are too long to be asked: their prompts do not fit training.sequenceLength, or the "
        "model's 512 positions together with evaluation.maxAnswerTokens (600): raise the one, or lower the other"
    )
    assert len(asked(measured(file, metric("rougeL"), max_answer_tokens=400), tmp_path / "again")) == 10


def test_labels_that_hardly_differ_are_told(tmp_path: Path):
    """Yes and yes are two labels, which is seldom meant."""
    rows = [{"prompt": f"p {n}", "completion": ("Yes", "yes", "no")[n % 3]} for n in range(30)]
    prepared = prepared_rows(
        measured(jsonl(tmp_path / "d.jsonl", rows), metric("label")), loaded(model(tmp_path / "m")), tmp_path
    )

    told = "labels that hardly differ count as different: 'Yes', 'yes'. Write them alike if they mean the same"
    assert told in prepared.warnings


def test_a_gate_needs_enough_rows_of_each_metric(tmp_path: Path):
    """Those of its own source too."""
    other = jsonl(tmp_path / "other.jsonl", chats(4))
    request = measured(
        jsonl(tmp_path / "d.jsonl", chats(80)), Metric(name="kept", type="contains", source=Dataset(location=at(other))), gated=True
    )  # fmt: skip
    with pytest.raises(UserError) as refused:
        asked(request, tmp_path)

    assert refused.value.message == (
        f"evaluation.metrics kept needs at least 20 rows of file://{other} with a prompt and an answer, but there are 4: add rows or "
        "remove the metric"
    )


def test_answers_that_will_be_cut_and_rows_that_are_not_asked_are_told(tmp_path: Path):
    """Before the money is spent."""
    rows = [{"messages": said("hello " * (200 if n % 4 == 0 else 1) + str(n), "fine " * 30)} for n in range(40)]
    request = replace(
        measured(jsonl(tmp_path / "d.jsonl", rows), metric("rougeL"), max_answer_tokens=8), sequence_length=128
    )
    prepared = prepared_rows(request, loaded(model(tmp_path / "m")), tmp_path)
    told = [warning for warning in prepared.warnings if "held-out rows" in warning]

    kept = len(read_questions(prepared.folder / "questions.jsonl"))
    assert told == [
        f"{20 - kept} of 20 held-out rows are longer than the sequence length of 128 tokens (the longest: d.jsonl row 13 with 454, d.jsonl "
        f"row 25 with 454, d.jsonl row 33 with 454): {20 - kept} have no answer left within it and are left out. Raise "
        "training.sequenceLength to 454",
        f"{20 - kept} of 20 held-out rows are too long to be asked: evaluation.metrics leave them out",
        f"{kept} of {kept} answers of the held-out rows are longer than evaluation.maxAnswerTokens (8), the longest has "
        f"{told[2].rpartition(' has ')[2].partition(' ')[0]} tokens: answers that long are cut",
    ]


def test_the_questions_are_part_of_the_datasets_digest(tmp_path: Path):
    """What is asked is what was planned."""
    file = jsonl(tmp_path / "d.jsonl", chats(20))
    words = loaded(model(tmp_path / "m"))
    plain = prepared_rows(measured(file), words, tmp_path / "a")
    asked_too = prepared_rows(measured(file, metric("exactMatch")), words, tmp_path / "b")

    assert plain.digest != asked_too.digest
    assert json.loads((asked_too.folder / "questions.jsonl").read_text().splitlines()[0])["reference"].startswith(
        "fine"
    )
