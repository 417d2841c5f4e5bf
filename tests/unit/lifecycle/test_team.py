"""A FineTunePolicy in the life of a job: refused early, re-examined, made to wait its turn, suspended when the money is spent."""

from decimal import Decimal
from typing import Any

from finetune_operator.api.policies import FineTunePolicy
from finetune_operator.lifecycle.observation import Team

from tests.unit.lifecycle.lifecycle_builders import a_pool, a_progress, examined
from tests.unit.lifecycle.world import World, a_world

OWNER = "FineTunePolicy default of namespace team-a, which #ml-platform can change"
POOL = a_pool(gpusPerNode=8, maxNodes=1, node={"cpus": 64, "memoryGiB": 1000, "ephemeralGiB": 3000})


def a_team(*, spent: str = "0", running: tuple[tuple[str, int], ...] = (), **spec: Any) -> Team:
    meta = {"name": "default", "namespace": "team-a", "uid": "p"}
    policy = FineTunePolicy.model_validate({"metadata": meta, "spec": {"contact": "#ml-platform", **spec}})
    return Team(policy=policy, spent_usd=Decimal(spent), running=running)


def under(team: Team, **spec: Any) -> World:
    world = a_world(pool=POOL, **spec)
    world.team = team
    return world.settle()


def examined_under(team: Team, **spec: Any) -> World:
    return under(team, **spec).run("bot-preflight-1").end("bot-preflight-1", 0, examined()).settle()


def test_what_the_policy_forbids_is_refused_before_preflight():
    """No Pod is created, and the message says who can help."""
    world = under(a_team(require={"budget": True}))

    assert world.created == []
    assert world.condition("Succeeded") == (
        "False", "PolicyViolation", f"spec.runPolicy.budget must be set (require.budget): {OWNER}",
    )  # fmt: skip
    assert world.condition("Stalled")[2].endswith("; the operator checks again when the spec or the policy changes")


def test_a_changed_policy_lets_the_job_go_on_by_itself():
    """And a policy that is gone forbids nothing."""
    world = under(a_team(require={"budget": True}))
    world.team = a_team()
    world.settle()
    other = under(a_team(require={"budget": True}))
    other.team = None
    other.settle()

    assert (world.created, other.created) == (["bot-preflight-1"], ["bot-preflight-1"])


def test_a_policy_that_changes_its_mind_says_the_new_rule():
    """A message about a rule that is gone helps nobody."""
    world = under(a_team(require={"budget": True}))
    world.team = a_team(allow={"destinations": ["s3://elsewhere/"]})
    world.settle()

    assert world.condition("Succeeded")[2].endswith(f"(allow.destinations: s3://elsewhere/): {OWNER}")


def test_a_plan_past_the_policy_is_refused_and_planned_when_it_allows():
    """Four GPUs at most need a smaller figure in the job, or a larger one in the policy."""
    world = examined_under(a_team(limits={"costPerJobUSD": "0.01"}), resources={"gpus": 8})
    refused = world.condition("Succeeded")
    world.team = a_team()
    world.settle()

    assert refused[1] == "PolicyViolation"
    assert refused[2].startswith("lora on 8 x H100-80GB-HBM3 is estimated at $")
    assert [entry.number for entry in world.attempts] == [0]


def test_a_plan_that_waits_for_its_user_is_made_again_under_a_smaller_limit():
    """planOnly: four GPUs are as quick as eight, then two are allowed."""
    world = examined_under(a_team(limits={"gpusPerJob": 8}), planOnly=True, resources={"optimizeFor": "time"})
    before = world.status.plan
    world.team = a_team(limits={"gpusPerJob": 2})
    world.settle()

    assert before is not None
    assert (before.gpus_per_replica, world.status.plan and world.status.plan.gpus_per_replica) == (4, 2)


def test_a_job_waits_while_others_have_all_gpus_of_the_team():
    """It names them and looks again by itself."""
    world = examined_under(a_team(limits={"gpus": 8}, running=(("small", 2), ("large", 4))), resources={"gpus": 4})
    waiting, again = world.condition("Reconciling"), world.decision and world.decision.requeue_after
    world.team = a_team(limits={"gpus": 8}, running=(("large", 4),))
    world.settle()

    assert waiting == (
        "True", "PolicyLimit", f"needs 4 GPUs, and 6 are in use by large (4 GPUs), small (2 GPUs); limits.gpus is 8 of {OWNER}",
    )  # fmt: skip
    assert again == 10.0
    assert "bot-0-0" in world.pods


def test_a_job_waits_while_enough_others_run():
    """Jobs at a time, whatever they use."""
    world = examined_under(a_team(limits={"concurrentJobs": 1}, running=(("first", 8),)))

    assert (
        world.condition("Reconciling")[2] == f"1 job is running: first (8 GPUs); limits.concurrentJobs is 1 of {OWNER}"
    )
    assert world.attempts == []


def test_a_job_waits_where_the_month_has_no_money_for_it():
    """What is left must cover the estimate: half a run is worth nothing."""
    world = examined_under(a_team(limits={"costPerMonthUSD": "100.00"}, spent="99.95"))
    said = world.condition("Reconciling")
    world.team = a_team(limits={"costPerMonthUSD": "100.00"}, spent="0")
    world.settle()

    assert said[1] == "PolicyLimit"
    assert said[2].startswith("$99.95 has been spent this month, and the job is estimated at $")
    assert said[2].endswith(f"; limits.costPerMonthUSD is 100.00 of {OWNER}")
    assert [entry.number for entry in world.attempts] == [0]


def running(team: Team, **spec: Any) -> World:
    world = examined_under(team, **spec).run("bot-0-0").settle()
    return world.later(60).report(a_progress(5)).settle()


def test_a_running_job_is_suspended_when_the_month_is_spent_and_goes_on_in_the_next():
    """Its checkpoint is saved; nobody has to do anything on the first of the month."""
    world = running(a_team(limits={"costPerMonthUSD": "100.00"}), resources={"gpus": 1})
    world.team = a_team(limits={"costPerMonthUSD": "100.00"}, spent="100.02")
    world.settle().end("bot-0-0", 85).reap().settle()
    suspended = (world.status.phase, world.condition("Suspended"))
    world.team = a_team(limits={"costPerMonthUSD": "100.00"})
    world.later(3600).settle()

    assert suspended == (
        "Suspended",
        ("True", "PolicyLimit", f"the namespace has spent $100.02 this month, limits.costPerMonthUSD is 100.00 of {OWNER}"),
    )  # fmt: skip
    assert [entry.number for entry in world.attempts] == [0, 1]


def test_a_running_job_is_suspended_at_the_hours_of_a_job():
    """One hour, whatever the job's own deadline is."""
    world = running(a_team(limits={"hoursPerJob": 1}), resources={"gpus": 1}).later(3600)
    world.settle().end("bot-0-0", 85).reap().settle()

    assert world.condition("Suspended") == (
        "True", "PolicyLimit", f"the job has run for 1 hour, the limit set by limits.hoursPerJob of {OWNER}",
    )  # fmt: skip


def test_a_stricter_policy_takes_nothing_from_a_running_job():
    """Rules about what may be started end nothing."""
    world = running(a_team(), resources={"gpus": 4})
    world.team = a_team(limits={"gpusPerJob": 1, "concurrentJobs": 0}, allow={"destinations": ["s3://elsewhere/"]})
    world.settle()

    assert world.status.phase == "Training"


def test_labels_of_policy_and_job_are_on_every_pod():
    """Cost centres of the team, and what the job adds."""
    labels = [{"key": "example.com/cost-center", "value": "cc-1"}]
    world = under(a_team(defaults={"labels": labels}), podMetadata={"labels": [{"key": "run", "value": "nightly"}]})
    preflight = world.manifests["bot-preflight-1"]["metadata"]["labels"]
    world.run("bot-preflight-1").end("bot-preflight-1", 0, examined()).settle()
    trainer = world.manifests["bot-0-0"]["metadata"]["labels"]

    for found in (preflight, trainer):
        assert (found["example.com/cost-center"], found["run"]) == ("cc-1", "nightly")
