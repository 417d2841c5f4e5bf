"""Where two policies have something to say, the order of the chain decides; these orders matter."""

from finetune_operator.lifecycle.policies import POLICIES, Policy
from finetune_operator.lifecycle.policies.attempts import create_missing, retry_or_give_up
from finetune_operator.lifecycle.policies.examination import refuse_shared_checkpoints, run_preflight
from finetune_operator.lifecycle.policies.stops import pause_at_limit, pause_on_request
from finetune_operator.lifecycle.policies.terminal import clean_up_ended, record_success
from finetune_operator.lifecycle.record import record
from finetune_operator.lifecycle.view import View

from tests.unit.lifecycle.lifecycle_builders import a_failure, a_preemption, published
from tests.unit.lifecycle.world import World, a_training_world, a_world

SPENT = {"budget": {"maxCostUSD": "0.10"}}
"""100 seconds of the only GPU."""

UNCHANGED = ("", "")
"""A step that leaves what the job says about itself as it is."""


def said_by(world: World, *policies: Policy) -> list[tuple[str, str]]:
    """Return phase and reason that each of these policies would give the job, in the order of the chain."""
    view = record(View(job=world.job, status=world.status, seen=world.observe(), now=world.now))
    steps = [policy(view) for policy in POLICIES if policy in policies]
    assert None not in steps, "all of them have something to say"
    return [(step.outlook.phase, step.outlook.reason) if step.outlook else UNCHANGED for step in steps if step]


def phase_after_a_pass(world: World) -> str | None:
    """Decide, carry it out, and return the phase of the job."""
    world.one_pass()
    return world.status.phase


def test_an_ended_job_is_cleaned_up_and_not_published_a_second_time():
    """Its last attempt still says that it succeeded: recording that again would move the time of completion."""
    world = a_training_world().later(100).end("bot-0-0", 0, published()).settle().later(3600)
    ended_at = world.status.completion_time

    assert said_by(world, clean_up_ended, record_success) == [UNCHANGED, ("Succeeded", "Published")]
    assert phase_after_a_pass(world) == "Succeeded"
    assert world.status.completion_time == ended_at == "2026-01-31T12:01:40Z"


def test_a_published_result_wins_over_a_pause():
    """Nothing is left that could be suspended."""
    world = a_training_world().later(100).edit(suspend=True).end("bot-0-0", 0, published())

    assert said_by(world, record_success, pause_on_request) == [("Succeeded", "Published"), ("Suspended", "Suspended")]
    assert phase_after_a_pass(world) == "Succeeded"


def test_the_users_own_pause_wins_over_the_budget():
    """Raising the budget would not let this job go on, so the budget is not what is shown."""
    world = a_training_world(runPolicy=SPENT).later(100).edit(suspend=True).end("bot-0-0", 85, a_preemption(80))

    assert said_by(world, pause_on_request, pause_at_limit) == [
        ("Suspended", "Suspended"), ("Suspended", "BudgetExceeded"),
    ]  # fmt: skip
    assert phase_after_a_pass(world) == "Suspended"
    assert world.condition("Suspended")[1] == "Suspended"


def test_a_spent_budget_wins_over_the_next_attempt():
    """The other order would buy a GPU with money that is not there."""
    world = a_training_world(runPolicy=SPENT).later(100).end("bot-0-0", 85, a_preemption(80))

    assert said_by(world, pause_at_limit, retry_or_give_up)[0] == ("Suspended", "BudgetExceeded")
    assert phase_after_a_pass(world) == "Suspended"


def test_a_retry_wins_over_missing_children():
    """An attempt that has ended misses its Pods; created at once, the next one would not wait its pause."""
    world = a_training_world().later(100).end("bot-0-0", 1, a_failure())

    assert said_by(world, retry_or_give_up, create_missing) == [("Planned", "BackOff"), ("Planned", "Starting")]
    assert phase_after_a_pass(world) == "Planned"
    assert len(world.attempts) == 1


def test_a_job_whose_checkpoints_lie_among_anothers_gets_no_preflight():
    """It costs no Pod to see."""
    world = a_world()
    world.checkpoints_of = "older"

    assert said_by(world, refuse_shared_checkpoints, run_preflight) == [
        ("Failed", "OutputOccupied"), ("Preflight", "Examining"),
    ]  # fmt: skip
    assert (phase_after_a_pass(world), world.created) == ("Failed", [])
