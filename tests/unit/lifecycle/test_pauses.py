"""Suspend and resume, budget and deadline: the trainer saves, the GPUs go, the job goes on where it was."""

from datetime import timedelta

from finetune_operator.api.status import AttemptStatus

from tests.unit.lifecycle.lifecycle_builders import a_failure, a_preemption, a_progress, examined, published
from tests.unit.lifecycle.world import World, a_planned_world, a_training_world, a_world


def drained(world: World, name: str = "bot-0-0", step: int = 80) -> World:
    """Let the kubelet do what a deletion asks for: SIGTERM, checkpoint, gone."""
    assert world.pods[name].deleting
    return world.later(5).end(name, 85, a_preemption(step)).settle().reap().settle()


def test_suspend_deletes_the_pods_with_their_grace_and_waits_until_they_are_gone():
    """Suspended is True only when no GPU is held any more."""
    world = a_training_world().later(100).edit(suspend=True).settle()
    draining = (world.deleted, world.condition("Suspended"), world.condition("Reconciling")[0])
    drained(world)

    assert draining == (
        ["bot-0-0"],
        ("False", "Suspending", "suspending: the trainer saves a checkpoint before its Pods stop"),
        "True",
    )
    assert (world.status.phase, world.condition("Suspended")) == (
        "Suspended",
        ("True", "Suspended", "spec.suspend is true: set it to false to resume from step 80"),
    )
    assert world.condition("Reconciling")[0] == "False"
    assert world.attempts == [
        AttemptStatus(
            number=0, start_time="2026-01-31T12:00:00Z", running_time="2026-01-31T12:00:00Z",
            end_time="2026-01-31T12:01:45Z", outcome="Suspended", message="saved at step 80", node_names=["node-1"],
            last_step=80, checkpoint_step=80, gpu_seconds=105, cost_usd="0.105",
        )
    ]  # fmt: skip


def test_resume_starts_the_next_attempt_at_once_from_the_checkpoint():
    """A suspension is no failure: nothing is counted, nothing is waited for."""
    world = drained(a_training_world().later(100).edit(suspend=True).settle()).edit(suspend=False).settle()

    entry = world.attempts[1]
    assert (entry.number, entry.first_step, world.status.attempts_without_progress) == (1, 80, 0)
    assert (world.created[-1], world.status.phase, world.condition("Suspended")[1]) == (
        "bot-1-0", "Planned", "NotSuspended",
    )  # fmt: skip


def test_a_suspension_that_is_taken_back_is_finished_first():
    """The Pods are on their way out already: what they end with is still a suspension."""
    world = a_training_world().later(100).edit(suspend=True).settle().edit(suspend=False).settle()
    assert world.condition("Suspended")[1] == "Suspending"

    drained(world)

    assert [entry.outcome for entry in world.attempts] == ["Suspended", None]


def test_a_result_that_is_published_while_suspending_is_a_result():
    """The trainer was faster than SIGTERM."""
    world = a_training_world().later(100).edit(suspend=True).settle().end("bot-0-0", 0, published()).settle()

    assert world.condition("Succeeded")[:2] == ("True", "Published")


def test_a_pod_that_is_killed_while_suspending_is_suspended_all_the_same():
    """The checkpoint may be older; it is no failure of the run."""
    world = a_training_world().later(100).edit(suspend=True).settle().end("bot-0-0", 137).settle()

    assert (world.attempts[0].outcome, world.status.attempts_without_progress) == ("Suspended", 0)
    assert world.status.phase == "Suspended"


def test_a_job_created_suspended_starts_nothing():
    """Not even preflight."""
    world = a_world(suspend=True).settle()

    assert (world.created, world.status.phase) == ([], "Suspended")


def test_suspending_before_the_pods_have_a_node_ends_the_attempt_for_free():
    """Nothing ran: nothing to pay, and the next attempt has a number of its own."""
    world = a_planned_world().edit(suspend=True).settle()
    assert (world.pods.keys(), world.status.phase) == ({"bot-preflight-1"}, "Suspended")
    world.edit(suspend=False).settle()

    assert [(entry.outcome, entry.gpu_seconds) for entry in world.attempts] == [("Suspended", 0), (None, 0)]


def test_suspending_during_preflight_removes_its_pod_and_resuming_runs_it_again():
    """Preflight is repeated; it costs no GPU."""
    world = a_world().settle().run("bot-preflight-1").edit(suspend=True).settle()
    world.end("bot-preflight-1", 143).settle().reap().settle()
    assert (world.status.phase, world.pods) == ("Suspended", {})
    world.edit(suspend=False).settle()

    assert world.created == ["bot-preflight-1", "bot-preflight-1"]
    assert world.status.attempts_without_progress == 0


def test_the_budget_suspends_and_a_raise_lets_the_job_go_on():
    """0.10 USD are 100 seconds of the only GPU."""
    world = a_training_world(runPolicy={"budget": {"maxCostUSD": "0.10"}})
    wakes = world.decision and world.decision.requeue_after
    world.later(99).settle()
    assert world.deleted == []
    world.later(1).settle()
    drained(world)
    waiting = (world.status.phase, world.condition("Suspended"))
    world.edit(runPolicy={"budget": {"maxCostUSD": "0.20"}}).settle()

    assert wakes == 100
    assert waiting == (
        "Suspended",
        (
            "True",
            "BudgetExceeded",
            "the job has spent its budget of $0.10: raise runPolicy.budget.maxCostUSD to continue",
        ),
    )
    assert ([entry.outcome for entry in world.attempts], world.created[-1]) == (["Suspended", None], "bot-1-0")


def test_a_spent_budget_stays_spent_when_the_clock_of_the_node_says_less():
    """0.10 USD are 100 seconds. The container ends 20 s earlier by its node's clock: the job does not run on for those, again and again."""
    world = a_training_world(runPolicy={"budget": {"maxCostUSD": "0.10"}})
    world.later(100).settle()
    while_saving = (world.attempts[0].gpu_seconds, world.status.cost and world.status.cost.cost_usd)
    world.end("bot-0-0", 85, a_preemption(10)).change("bot-0-0", finished_at=world.now - timedelta(seconds=20))
    world.settle().reap().settle()
    world.later(3600).settle()

    assert while_saving == (100, "0.10")
    assert (world.status.phase, world.condition("Suspended")[1]) == ("Suspended", "BudgetExceeded")
    assert [(entry.outcome, entry.gpu_seconds, entry.cost_usd) for entry in world.attempts] == [
        ("Suspended", 100, "0.10")
    ]


def test_the_deadline_counts_running_time_over_all_attempts():
    """100 seconds: 60 in attempt 0, 40 in attempt 1, whatever lies between."""
    world = a_training_world(runPolicy={"activeDeadlineSeconds": 100})
    world.later(60).end("bot-0-0", 85, a_preemption(10)).settle().later(3600).settle().run("bot-1-0").settle()
    wakes = world.decision and world.decision.requeue_after
    world.later(40).settle()
    drained(world, "bot-1-0")

    assert wakes == 40
    assert world.condition("Suspended") == (
        "True",
        "DeadlineExceeded",
        "the job has run for 100 s, its limit: raise runPolicy.activeDeadlineSeconds to continue",
    )


def test_a_result_that_is_being_published_is_let_through():
    """Stopping now would waste all the money that was spent."""
    world = a_training_world(runPolicy={"budget": {"maxCostUSD": "0.10"}})
    world.later(99).report(a_progress(169, phase="publishing")).settle().later(10).settle()

    assert (world.deleted, world.status.phase) == ([], "Publishing")


def test_a_limit_holds_again_when_a_publishing_attempt_was_lost():
    """What the lost attempt reported last is not what the next one does."""
    world = a_training_world(runPolicy={"budget": {"maxCostUSD": "0.10"}})
    world.later(50).report(a_progress(169, phase="publishing")).settle().end("bot-0-0", 137).settle()
    world.progress = None
    world.later(10).settle().run("bot-1-0").settle()
    assert world.status.phase == "Training"
    world.later(50).settle()

    assert world.deleted == ["bot-1-0"]


def test_what_the_user_must_change_is_said_after_a_resume_too():
    """The suspension came first; the reason is not lost."""
    world = (
        a_training_world().edit(suspend=True).settle().end("bot-0-0", 87, a_failure("DatasetChanged", "rows differ"))
    )
    world.settle().reap().settle()
    assert world.status.phase == "Suspended"
    world.edit(suspend=False).settle()

    assert world.condition("Succeeded") == ("False", "DatasetChanged", "rows differ")


def test_an_edit_while_suspended_before_the_first_attempt_is_examined_after_the_resume():
    """Everything starts again with the edited spec."""
    world = a_planned_world(planOnly=True).edit(planOnly=False, suspend=True).settle()
    world.edit(suspend=False, training={"epochs": 1}).settle()
    world.run("bot-preflight-3").end("bot-preflight-3", 0, examined()).settle()

    assert world.created == ["bot-preflight-1", "bot-preflight-3", "bot-0-0"]
