"""Scores of single answers, tool calls in the words of many templates, and what an interval says."""

import numpy as np
import pytest
from finetune_contract import Metric, MetricResult
from finetune_trainer.evaluation.intervals import figure, picks, rows_needed
from finetune_trainer.evaluation.scores.calls import calls_in, same_calls, same_functions
from finetune_trainer.evaluation.scores.labels import codes, confusion, macro_f1
from finetune_trainer.evaluation.scores.texts import TEXT_SCORES, said

SCORED = [
    ("exactMatch", {}, "  Paris \n", "Paris", 1.0),
    ("exactMatch", {}, "paris.", "Paris", 0.0),
    ("exactMatch", {"ignore_case": True, "ignore_punctuation": True}, "paris.", "Paris", 1.0),
    ("contains", {}, "It is Paris, of course", "Paris", 1.0),
    ("contains", {}, "It is Rome", "Paris", 0.0),
    ("regex", {"pattern": r"^\d{4}-\d\d-\d\d$"}, "2026-11-29", "anything", 1.0),
    ("regex", {"pattern": r"^\d{4}-\d\d-\d\d$"}, "29 November", "anything", 0.0),
    ("regex", {"pattern": r"answer is \(?([A-D])"}, "So the answer is (B)", "The answer is B", 1.0),
    ("regex", {"pattern": r"answer is \(?([A-D])"}, "So the answer is (C)", "The answer is B", 0.0),
    ("regex", {"pattern": r"answer is \(?([A-D])"}, "the answer is (B)", "B", 1.0),
    ("numeric", {}, "He has 5 + 3 = 8 apples.\n#### 8", "5 and 3\n#### 8", 1.0),
    ("numeric", {}, "The total is $1,000.", "#### 1,000", 1.0),
    ("numeric", {}, r"so \boxed{\frac{1}{2}}", "0.5", 1.0),
    ("numeric", {}, "I do not know", "#### 8", 0.0),
    ("numeric", {}, "#### 80", "#### 8", 0.0),
    ("json", {}, '```json\n{"a": 1}\n```', "", 1.0),
    ("json", {}, "{'a': 1}", "", 0.0),
    ("json", {"schema": '{"type": "object", "required": ["a"]}'}, '{"b": 1}', "", 0.0),
    ("json", {"schema": '{"pattern": "^(a|aa)+$"}'}, f'"{"a" * 60}!"', "", 0.0),
    ("json", {"schema": '{"pattern": "^(a|aa)+$"}'}, f'"{"a" * 60}"', "", 1.0),
    ("json", {"equal": True}, '{"b": 2, "a": 1}', '{"a": 1, "b": 2}', 1.0),
    ("json", {"equal": True}, '{"a": 1, "b": 3}', '{"a": 1, "b": 2}', 0.0),
    ("numeric", {}, "He lost -$5 in total.", "#### -5", 1.0),
    ("numeric", {}, "-3 degrees", "From 2 down by 5\n#### -3", 1.0),
    ("numeric", {}, "The total is 72 clips, altogether.", "#### 72", 1.0),
    ("numeric", {}, "2^100000000", "#### 5", 0.0),
    ("json", {}, '{"a": NaN}', "", 0.0),
    ("json", {}, "[" * 100_000, "", 0.0),
    ("exactMatch", {}, "cafe\u0301", "caf\u00e9", 1.0),
    ("exactMatch", {"ignore_punctuation": True}, "\u00bfD\u00f3nde?", "D\u00f3nde", 1.0),
    ("rougeL", {}, "\u041c\u0438\u0440, \u0434\u0430", "\u043c\u0438\u0440 \u0434\u0430", 1.0),
    ("rougeL", {}, "\u4eca\u5929\u5f88\u597d", "\u4eca\u5929\u5f88\u574f", 0.75),
    ("rougeL", {}, "the cat sat", "the cat sat", 1.0),
    ("rougeL", {}, "a dog", "the cat sat", 0.0),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "settings", "answer", "reference", "score"), SCORED)
def test_an_answer_is_scored(kind: str, settings: dict, answer: str, reference: str, score: float):
    """As a person would say it is right or wrong."""
    metric = Metric(name="m", type=kind, **settings)

    assert TEXT_SCORES[kind](metric, said(answer), reference) == score


def test_what_was_thought_is_not_the_answer():
    """A reasoning model is judged by what it says in the end."""
    assert said("<think>Is it Rome? No.</think>\n\nParis") == "Paris"
    assert calls_in('<think>{"name": "a", "arguments": {}}</think>no call is needed') == []


def test_a_pattern_that_never_ends_finds_nothing():
    """The run must not hang on a regular expression of exponential cost."""
    metric = Metric(name="m", type="regex", pattern=r"^(a|aa)+$")

    assert TEXT_SCORES["regex"](metric, "a" * 60 + "b", "") == 0.0


CALL = {"name": "get_weather", "arguments": {"city": "Oslo", "days": 2}}
WRITTEN = {
    "Hermes, Qwen": '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo", "days": 2}}\n</tool_call>',
    "Llama 3": '<|python_tag|>{"name": "get_weather", "parameters": {"city": "Oslo", "days": 2}}',
    "Mistral": '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Oslo", "days": 2}}]',
    "Mistral 11": '[TOOL_CALLS]get_weather[ARGS]{"city": "Oslo", "days": 2}',
    "Functionary": '<function=get_weather>{"city": "Oslo", "days": 2}</function>',
    "Qwen3-Coder": "<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n<parameter=days>\n2\n</parameter>\n"
    "</function>\n</tool_call>",
    "GLM": "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n<arg_key>days</arg_key>\n"
    "<arg_value>2</arg_value>\n</tool_call>",
    "DeepSeek V3": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n"  # noqa: RUF001 - its own marks
    '```json\n{"city": "Oslo", "days": 2}\n```<｜tool▁call▁end｜>',  # noqa: RUF001 - the same
    "DeepSeek V3.1": '<｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Oslo", "days": 2}<｜tool▁call▁end｜>',  # noqa: RUF001
    "gpt-oss": ' to=functions.get_weather <|constrain|>json<|message|>{"city": "Oslo", "days": 2}<|call|>',
    "Llama 4": "[get_weather(city='Oslo', days=2)]",
    "OpenAI": '{"tool_calls": [{"type": "function", "function": {"name": "get_weather", '
    '"arguments": "{\\"city\\": \\"Oslo\\", \\"days\\": 2}"}}]}',
}  # fmt: skip


@pytest.mark.parametrize("template", WRITTEN)
def test_a_call_is_read_from_the_words_of_a_template(template: str):
    """Name and arguments, whatever is around them."""
    assert calls_in(WRITTEN[template]) == [CALL]


def test_what_looks_like_a_call_and_is_none_ends_nothing():
    """A model may say anything."""
    assert [calls_in(text) for text in ("{" * 100_000, "[f(" * 50_000, "[f(a=open('x'))]", '{"name": 5}')][:3] == [
        [],
        [],
        [],
    ]


def test_calls_are_compared_whatever_their_order():
    """5 is 5.0; another argument is another call, of the same function."""
    other = {"name": "get_weather", "arguments": {"city": "Rome", "days": 2.0}}

    assert same_calls([other, CALL], [CALL, other]) == 1.0
    assert same_calls([{**CALL, "arguments": {"city": "Oslo", "days": 2.0}}], [CALL]) == 1.0
    assert (same_calls([other], [CALL]), same_functions([other], [CALL])) == (0.0, 1.0)
    assert (same_calls([], []), same_calls([CALL], []), same_functions([CALL, CALL], [CALL])) == (1.0, 0.0, 0.0)


def test_macro_f1_is_the_mean_of_the_labels_that_occur():
    """By hand: a has precision 2/3 and recall 1, b 1 and 1/2; c occurs nowhere."""
    labels = ("a", "b", "c")
    table = confusion(codes(labels, ["a", "a", "a", "b"]), codes(labels, ["a", "a", "b", "b"]), 3)

    assert table.tolist() == [[2, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert macro_f1(table) == pytest.approx((0.8 + 2 / 3) / 2)


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    """300 draws of 60 rows from a known rate: 95 % is meant, and the rate of misses may not be twice what is allowed."""
    rng, truth, hits = np.random.default_rng(0), 0.7, 0
    for seed in range(300):
        scores = (rng.random(60) < truth).astype(float)
        _, low, high = figure(lambda sample, s=scores: float(s[sample].mean()), picks(60, seed), least=0.0)
        hits += low <= truth <= high

    assert 0.9 <= hits / 300 <= 1.0


def test_rows_that_are_all_alike_do_not_pretend_certainty():
    """Twenty right answers out of twenty may still be 85 %."""
    scores = np.ones(20)

    assert figure(lambda sample: float(scores[sample].mean()), picks(20, 1), least=0.0) == (1.0, 0.85, 1.0)


@pytest.mark.parametrize(
    ("difference", "rows", "needed", "verdict"),
    [
        ((0.2, 0.1, 0.3), 40, 0, "better"),
        ((-0.2, -0.3, -0.1), 40, 0, "worse"),
        ((0.05, -0.05, 0.15), 40, 160, "40 rows are too few to tell: about 160 would, if the difference is +0.05"),
        ((0.0, -0.05, 0.05), 40, 0, "no difference found on 40 rows"),
    ],
)
def test_a_difference_is_said_in_words(difference: tuple, rows: int, needed: int, verdict: str):
    """Where the rows are too few, the answer is how many would do."""
    assert rows_needed(difference, rows) == needed
    result = MetricResult(name="m", examples=rows, tuned=(1.0, 1.0, 1.0), difference=difference, rows_needed=needed)
    assert result.verdict == verdict


def test_a_schema_fetches_nothing():
    """Where preflight has let a reference through, the answer is not sent anywhere: the library itself would have fetched it."""
    metric = Metric(name="m", type="json", schema='{"$ref": "data:application/json,true"}')
    with pytest.raises(Exception, match=r"^Unresolvable: data:application/json,true$"):
        TEXT_SCORES["json"](metric, "{}", "")
