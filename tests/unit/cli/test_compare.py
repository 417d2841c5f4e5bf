"""`finetune compare`: in which settings jobs differ, what came out, and their curves as a picture."""

from typing import Any

import pytest
from finetune_operator.api.status import FineTuneJob, FineTuneJobStatus
from finetune_operator.cli.compare import command
from finetune_operator.cli.compare_text import comparison
from finetune_operator.cli.curves import from_lines
from finetune_operator.cli.svg_curves import MOST_POINTS, Curve, picture, thinned, tick
from finetune_operator.errors import FinetuneError

from tests.unit.smallest_spec import SMALLEST_SPEC

BORN = "2026-11-23T10:00:00Z"


def a_job(name: str, loss: str, *, rows: int = 10, **training: Any) -> FineTuneJob:
    """A job that succeeded with a held-out loss."""
    measured = {
        "examples": rows,
        "baseLoss": "2.0",
        "tunedLoss": loss,
        "relativeImprovement": "0.5",
    }
    status = {
        "phase": "Succeeded", "evaluation": measured, "cost": {"costUSD": "1.50"},
        "attempts": [{"number": 0, "startTime": BORN, "gpuSeconds": 3600}],
    }  # fmt: skip
    spec = SMALLEST_SPEC | {"output": {"destination": f"s3://team-a/{name}"}, "training": training}
    metadata = {"name": name, "namespace": "team-a", "uid": name, "generation": 1, "creationTimestamp": BORN}
    return FineTuneJob.model_validate({"metadata": metadata, "spec": spec, "status": status})


def test_two_jobs_are_compared():
    """Their places of output are no difference; the better loss has a star, equal figures have none."""
    assert comparison([a_job("a", "1.2", learningRate="1e-4"), a_job("b", "1.1", epochs=2)]) == [
        "SETTING                 a      b",
        "training.learningRate   1e-4   -",
        "training.epochs         -      2",
        "",
        "RESULT          a           b",
        "phase           Succeeded   Succeeded",
        "held-out loss   1.2         1.1 *",
        "improvement     50.0 %      50.0 %",
        "cost, USD       1.50        1.50",
        "attempts        1           1",
    ]


def test_losses_on_different_rows_are_not_compared():
    """The lower one is not the better one."""
    lines = comparison([a_job("a", "1.2"), a_job("b", "1.1", rows=20)])

    assert lines[0] == "the settings are the same"
    assert lines[-1] == "note: the data or the held-out rows differ, so the losses cannot be compared with each other"


@pytest.mark.parametrize("names", [["a"], ["a", "a"]])
def test_one_job_cannot_be_compared(names: list[str]):
    """Neither with nothing nor with itself."""
    with pytest.raises(FinetuneError, match=r"^name two or more different jobs: finetune compare A B$"):
        command(names)


def test_a_history_is_read_as_it_was_the_last_time():
    """A step that was repeated after a failure counts once; a line that was cut off counts not at all."""
    found = from_lines(
        [
            '{"step": 1, "loss": 3.0, "learning_rate": 0.1}', '{"step": 2, "loss": 2.5}', '{"step": 2, "loss": 2.0}',
            '{"step": 2, "eval_loss": 2.2}', '{"step": 3, "lo', "[]",
        ]
    )  # fmt: skip

    assert (found.loss, found.held_out, found.learning_rate) == (((1.0, 3.0), (2.0, 2.0)), ((2.0, 2.2),), ((1.0, 0.1),))


def test_a_picture_has_a_line_for_each_curve_and_escapes_names():
    """Names come from the cluster; a single value is a dot; nothing at all is said."""
    drawn = picture([Curve(name="a<b", points=[(1, 2.0), (2, 1.0)]), Curve(name="c", points=[(1, 1.5)])], title="loss")

    assert drawn.count("<polyline") == 2
    assert drawn.count("<circle") == 1
    assert ">a&lt;b</text>" in drawn
    assert "no measurements" in picture([], title="loss")


def test_many_points_become_few():
    """A run of 100,000 steps fits into a file that can be mailed; what is not a number is left out."""
    points = [(float(step), 1.0) for step in range(10_000)]

    assert len(thinned(points)) <= MOST_POINTS
    assert thinned([(1.0, float("nan")), (2.0, 3.0)]) == [(2.0, 3.0)]
    assert [tick(value) for value in (0.0, 0.00012, 0.5, 1234.5)] == ["0", "1.2e-4", "0.5", "1.23e+03"]


def test_the_gates_of_jobs_are_compared():
    """A job without one has a dash."""
    gate = {
        "type": "Promoted",
        "status": "True",
        "reason": "GatePassed",
        "message": "loss 40 % better",
        "lastTransitionTime": BORN,
    }
    passed, none = a_job("a", "1.2"), a_job("b", "1.2")
    passed = passed.model_copy(
        update={"status": FineTuneJobStatus.model_validate(passed.status.model_dump() | {"conditions": [gate]})}
    )

    assert "gate            passed      -" in comparison([passed, none])
