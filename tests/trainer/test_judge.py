"""A model elsewhere compares answers: each pair both ways round, the bill told, and no failure of it ends a run."""

from pathlib import Path

import pytest
from finetune_contract import Evaluation, Judge, Location, Metric
from finetune_trainer.evaluation.judging import Pair, share_of_first
from finetune_trainer.training.judge import judged_elsewhere

from tests.servers.judge import Rule, judging
from tests.trainer.running import IN_PROCESS, trained
from tests.trainer.test_metrics import reviews
from tests.trainer.tiny import a_run, tiny_model

pytestmark = IN_PROCESS


def metric(endpoint: str, secret: str = "") -> Metric:
    judge = Judge(endpoint=Location(uri=endpoint, secret=secret), model="wise-1")
    return Metric(name="judge", type="judge", judge=judge)


def pairs(count: int) -> list[Pair]:
    return [Pair(request=f"r{n}", reference="x", first=f"base {n}", second=f"tuned {n}") for n in range(count)]


def asked(rule: Rule, count: int = 30, **limits: float) -> tuple:
    """What comes of a rule, what was said, and the server."""
    said: list[str] = []
    with judging(rule) as server:
        found = judged_elsewhere(
            metric(server.endpoint), range(count), pairs(count), seed=1, say=said.append, **({"pause_seconds": 0.0} | limits)
        )  # fmt: skip
    return found, said, server


def test_a_judge_that_prefers_a_place_says_nothing():
    """Always A: each pair is asked both ways round, so that it is a tie."""
    found, said, server = asked(lambda _a, _b, _n: "It is shown first. [[A]]")

    (result,) = found.results
    assert (result.base[0], result.tuned[0], result.difference[0]) == (0.5, 0.5, 0.0)
    assert len(server.requests) == 60
    assert said[-1] == "metric judge: 60 calls, 6,000 tokens read and 420 written"
    assert found.details == {"judge": {"calls": 60, "promptTokens": 6000, "completionTokens": 420}}


def test_the_better_answer_wins_wherever_it_stands():
    """Wins, losses and ties become a share with an interval."""
    found, _, server = asked(lambda a, _b, _n: "[[A]]" if a.startswith("tuned") else "[[B]]")

    (result,) = found.results
    assert (result.base, result.tuned, result.verdict) == ((0.0, 0.0, 0.1), (1.0, 0.9, 1.0), "better")
    assert server.requests[0]["model"] == "wise-1"


def test_a_busy_endpoint_is_asked_again():
    """A 429 to the first try of every question costs nothing but time."""
    tried: set[tuple[str, str]] = set()

    def busy_at_first(a: str, b: str, _number: int) -> int | str:
        first = (a, b) not in tried
        tried.add((a, b))
        return 429 if first else "[[C]]"

    found, said, _ = asked(busy_at_first)

    assert found.results[0].examples == 30
    assert "could not be judged" not in said[-1]


def test_rows_without_a_verdict_are_left_out_and_counted():
    """Every answer of some rows is no verdict."""
    found, said, _ = asked(
        lambda a, b, _n: "Hard to say." if a.endswith((" 1", " 2")) or b.endswith((" 1", " 2")) else "[[C]]"
    )

    assert found.results[0].examples == 28
    assert 1 not in found.asked
    assert said[-1].endswith("2 of 30 rows could not be judged: an answer without a verdict")
    assert found.results[0].note == said[-1].removeprefix("metric judge: ")


def test_an_endpoint_that_refuses_is_not_asked_for_ever():
    """A wrong key: no metric, and the reason in the log."""
    found, said, server = asked(lambda _a, _b, _n: 401, count=200)

    assert found is None
    assert len(server.requests) < 40
    assert '200 of 200 rows could not be judged: HTTP 401: {"error": {"message": "status 401 on purpose"}}' in said[-1]


def test_there_is_an_end_to_waiting():
    """GPUs are held meanwhile."""
    found, said, _ = asked(lambda _a, _b, _n: "[[C]]", most_seconds=-1.0)

    assert found is None
    assert said[-1].endswith("30 of 30 rows could not be judged: the time limit was reached")


def test_the_key_comes_from_the_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """And without its Secret nothing is sent."""
    (tmp_path / "OPENAI_API_KEY").write_text("sk-abcdefgh\n")
    monkeypatch.setenv("FINETUNE_SECRETS", f"judge={tmp_path}")
    said: list[str] = []
    with judging(lambda _a, _b, _n: "[[A]]") as server:
        for secret in ("judge", "missing"):
            judged_elsewhere(metric(server.endpoint, secret), range(2), pairs(2), seed=1, say=said.append)

    assert server.keys == {"Bearer sk-abcdefgh"}
    assert len(server.requests) == 4
    assert "the Secret missing for" in said[-1]


@pytest.mark.parametrize(
    ("words", "share"),
    [
        ("[[A]]", 1.0),
        ("first [[A]], but then [[B]]", 0.0),
        ("[[C]]", 0.5),
        ("A", None),
        ("<think>[[A]]</think> so [[B]]", 0.0),
    ],
)
def test_the_last_verdict_counts(words: str, share: float | None):
    """Reasons may quote the other one."""
    assert share_of_first(words) == share


@pytest.mark.parametrize("works", [True, False])
def test_a_run_is_published_whether_its_judge_answers_or_not(tmp_path: Path, works: bool):
    """The judge comes last, when everything is trained and paid for."""
    with judging(lambda a, _b, _n: ("[[A]]" if a in ("fish", "green") else "[[B]]") if works else 401) as server:
        evaluation = Evaluation(
            fraction=0.2, max_examples=20, max_answer_tokens=4,
            metrics=(metric(server.endpoint), Metric(name="exact", type="exactMatch")),
        )  # fmt: skip
        run = a_run(
            tmp_path,
            model=tiny_model(tmp_path / "m"),
            data=reviews(tmp_path / "d.jsonl", rows=100),
            evaluation=evaluation,
        )
        outcome = trained(run, tmp_path)

    assert (outcome.outcome, outcome.reason) == ("Succeeded", "Published")
    assert outcome.evaluation is not None
    names = [result.name for result in outcome.evaluation.metrics]
    assert names == (["exact", "judge"] if works else ["exact"])
