"""What a trainer reports at its end, and what becomes of reports that cannot be true."""

from dataclasses import replace

import pytest
from finetune_contract import MetricResult, Sample
from finetune_operator.cli.job_text import metric_lines
from finetune_operator.lifecycle.results import restarted

from tests.unit.lifecycle.lifecycle_builders import a_progress, examined, published
from tests.unit.lifecycle.world import a_training_world, a_world


def test_a_run_without_a_gpu_is_no_measure_of_the_plans_memory():
    """On a CPU the trainer reports its whole process; compared with a card it would look like a wrong plan."""
    world = a_training_world().end("bot-0-0", 0, replace(published(), peak_reserved_gib=None)).settle()

    assert (world.status.phase, world.status.memory) == ("Succeeded", None)


def test_a_report_that_the_api_has_no_words_for_ends_the_job_with_a_reason():
    """Another version's preflight: the operator must neither crash nor wait for ever."""
    world = a_world().settle()
    world.run("bot-preflight-1").end("bot-preflight-1", 0, examined(examples=-1)).settle()

    assert world.condition("Succeeded") == (
        "False",
        "ModelUnsupported",
        "the preflight report cannot be read (examples: Input should be greater than or equal to 0): use a preflight image "
        "of the same version as the operator",
    )


def test_an_artifact_that_the_api_has_no_words_for_does_not_hold_up_the_end():
    """The result is there all the same, and the message says where to look."""
    adapter = replace(published().artifacts[0], digest="x" * 100)
    world = a_training_world().end("bot-0-0", 0, published(artifacts=(adapter,))).settle()

    assert world.condition("Succeeded") == (
        "True",
        "Published",
        "published at s3://team-a/out; the trainer did not report the artifact: see finetune-manifest.json there",
    )


def test_samples_and_text_are_cut_to_what_the_schema_allows():
    """A model may answer without end."""
    result = published().evaluation
    assert result is not None
    long = replace(result, samples=tuple(Sample(prompt="p", base="b" * 9000, tuned="t") for _ in range(12)))
    world = a_training_world().end("bot-0-0", 0, published(evaluation=long)).settle()

    evaluation = world.status.evaluation
    assert evaluation is not None
    assert (len(evaluation.samples), len(evaluation.samples[0].base) <= 4096) == (8, True)


def test_the_column_eval_ends_with_the_loss_of_what_was_published():
    """The last evaluation of the run may be many steps old, and there is none where the cadence is longer than the run."""
    evals = []
    for reported in (1.75, None):
        world = a_training_world().report(a_progress(60, eval_loss=reported)).settle()
        world.end("bot-0-0", 0, published()).settle()
        evals.append(world.status.progress and world.status.progress.eval_loss)

    assert evals == ["1.5000", "1.5000"]


def test_the_speed_that_was_reached_stays_after_the_end():
    """A short run is over before its log is read: the outcome says how fast it was. The next attempt starts with nothing."""
    measured = {"tokens_per_second": 51234.6, "model_flop_utilisation": 0.41449, "padding_share": 0.0706}
    shown = {"tokens_per_second": "51235", "model_flop_utilisation": "0.414", "padding_share": "0.071"}
    progress = []
    for reported in ({}, measured):
        world = a_training_world().report(a_progress(60, **reported)).settle()
        progress.append(world.status.progress)
        world.end("bot-0-0", 0, published(**measured)).settle()
        progress.append(world.status.progress)

    nothing = dict.fromkeys(shown)
    assert [one and one.model_dump(include=set(shown), by_alias=False) for one in progress] == [nothing, *[shown] * 3]
    assert restarted(progress[-1]).model_dump(include=set(shown), by_alias=False) == nothing  # type: ignore[union-attr]


def test_figures_that_are_not_numbers_are_left_out():
    """A loss of NaN is no decimal of the API."""
    world = a_training_world().report(a_progress(3, loss=float("nan"), tokens_per_second=float("inf"))).settle()

    progress = world.status.progress
    assert progress is not None
    assert (progress.loss, progress.tokens_per_second) == (None, None)


def test_the_gate_decides_about_promotion():
    """An improvement of a quarter passes a gate of a fifth and fails one of a half."""
    verdicts = {}
    for least in ("0.2", "0.5"):
        world = a_training_world(evaluation={"gate": {"minRelativeLossImprovement": least}})
        assert world.condition("Promoted")[:2] == ("Unknown", "NotEvaluated")
        verdicts[least] = world.end("bot-0-0", 0, published()).settle().condition("Promoted")

    said = "held-out loss went from 2.0000 to 1.5000: 25 % better; the gate requires"
    assert verdicts == {"0.2": ("True", "GatePassed", f"{said} 20 %"), "0.5": ("False", "GateFailed", f"{said} 50 %")}


METRICS = (
    MetricResult(name="label", examples=200, base=(0.5, 0.43, 0.57), tuned=(0.91, 0.86, 0.95), difference=(0.41, 0.33, 0.49)),
    MetricResult(name="kept", examples=40, base=(0.6, 0.45, 0.75), tuned=(0.58, 0.43, 0.73), difference=(-0.02, -0.1, 0.05),
                 rows_needed=563),
)  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "status", "message"),
    [
        (
            {"metric": "label", "minValue": "0.85"}, "True",
            "label is 0.9100 (0.8600 to 0.9500), 95 % interval on 200 rows; the gate requires at least 0.85 at its lower end",
        ),
        (
            {"metric": "label", "minValue": "0.9"}, "False",
            "label is 0.9100 (0.8600 to 0.9500), 95 % interval on 200 rows; the gate requires at least 0.9 at its lower end; 200 rows "
            "are too few to be sure of it",
        ),
        (
            {"metric": "label", "minImprovement": "0.2"}, "True",
            "label went from 0.5000 to 0.9100, a change of +0.4100 (+0.3300 to +0.4900), 95 % interval on 200 rows; the gate requires "
            "an improvement of at least 0.2 at its lower end",
        ),
        (
            {"metric": "kept", "maxRegression": "0.05"}, "False",
            "kept went from 0.6000 to 0.5800, a change of -0.0200 (-0.1000 to +0.0500), 95 % interval on 40 rows; the gate requires "
            "a decrease of at most 0.05 at its lower end; 40 rows are too few to be sure of it",
        ),
    ],
)  # fmt: skip
def test_the_gate_goes_by_the_lower_end_of_a_metrics_interval(asked: dict[str, str], status: str, message: str):
    """Luck on few rows does not pass, and the message says what was measured."""
    metrics = [{"type": "label"}, {"type": "exactMatch", "name": "kept"}]
    world = a_training_world(evaluation={"metrics": metrics, "gate": {"metrics": [asked]}})
    result = replace(published().evaluation, metrics=METRICS)
    found = world.end("bot-0-0", 0, published(evaluation=result)).settle().condition("Promoted")

    assert found == (status, "GatePassed" if status == "True" else "GateFailed", message)


def test_a_gate_on_a_metric_that_was_not_measured_is_not_decided():
    """A trainer of another version may not report it."""
    evaluation = {"metrics": [{"type": "label"}], "gate": {"metrics": [{"metric": "label", "minValue": "0.5"}]}}
    world = a_training_world(evaluation=evaluation).end("bot-0-0", 0, published()).settle()

    assert world.condition("Promoted") == (
        "Unknown",
        "NotEvaluated",
        "what the gate asks for has not been measured yet",
    )


def test_metrics_are_in_the_status_with_their_intervals_and_in_words():
    """Whether the model is better, or that the rows are too few."""
    result = replace(published().evaluation, metrics=METRICS)
    world = a_training_world().end("bot-0-0", 0, published(evaluation=result)).settle()

    evaluation = world.status.evaluation
    assert evaluation is not None
    assert [metric.verdict for metric in evaluation.metrics] == [
        "better", "40 rows are too few to tell: about 563 would, if the difference is -0.02",
    ]  # fmt: skip
    first = evaluation.metrics[0]
    assert (first.base, first.tuned, first.tuned_low, first.tuned_high) == ("0.5000", "0.9100", "0.8600", "0.9500")
    assert (first.difference, first.difference_low, first.difference_high) == ("0.4100", "0.3300", "0.4900")
    assert "label 0.5000 before, 0.9100 (0.8600 to 0.9500) after on 200 rows: better" in metric_lines(first)


def test_an_outcome_with_exit_code_zero_and_no_words_is_not_a_success():
    """Without artifacts nobody knows what was published; the next attempt finds out."""
    world = a_training_world().end("bot-0-0", 0).settle()

    assert world.attempts[0].outcome == "TrainerError"
    assert world.attempts[0].message == "Pod bot-0-0 exited with code 0: it left no report of its result, see its log"
