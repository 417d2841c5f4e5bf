"""What a trainer reports at its end, and what becomes of reports that cannot be true."""

from dataclasses import replace

from finetune_contract import Sample
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


def test_an_outcome_with_exit_code_zero_and_no_words_is_not_a_success():
    """Without artifacts nobody knows what was published; the next attempt finds out."""
    world = a_training_world().end("bot-0-0", 0).settle()

    assert world.attempts[0].outcome == "TrainerError"
    assert world.attempts[0].message == "Pod bot-0-0 exited with code 0: it left no report of its result, see its log"
