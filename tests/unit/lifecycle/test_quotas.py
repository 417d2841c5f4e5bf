"""Quotas that change: what is planned follows them until a GPU is in use, and what never fits says why."""

from decimal import Decimal

from finetune_operator.api.reasons import WaitingReason
from finetune_operator.lifecycle.observation import Refusal
from finetune_operator.planning.quota import NamespaceLimits, Quota

from tests.unit.lifecycle.lifecycle_builders import NOW, a_pool, examined
from tests.unit.lifecycle.world import World, a_world

POOL = a_pool(gpusPerNode=8, maxNodes=1, node={"cpus": 64, "memoryGiB": 1000, "ephemeralGiB": 3000})


def gpus(number: int) -> NamespaceLimits:
    return NamespaceLimits(quotas=(Quota(name="team-a", hard=(("requests.nvidia.com/gpu", Decimal(number)),)),))


def examined_with(limits: NamespaceLimits, **spec: object) -> World:
    world = a_world(pool=POOL, **spec)
    world.limits = limits
    return world.settle().run("bot-preflight-1").end("bot-preflight-1", 0, examined()).settle()


def test_a_job_that_exceeds_the_quota_fails_and_is_planned_when_the_quota_is_raised():
    """DoesNotFit with the figure for the quota; nobody has to apply the job again."""
    world = examined_with(gpus(2), resources={"gpus": 4})
    _, reason, message = world.condition("Stalled")
    world.limits = gpus(4)
    world.settle()

    assert (reason, message.split("; ")[0]) == (
        "DoesNotFit", "lora on 4 x H100-80GB-HBM3 needs 4 GPUs (quota team-a allows 2)",
    )  # fmt: skip
    assert message.endswith("the job is planned again when its spec, a GPUPool or a quota of the namespace changes")
    assert world.status.plan is not None
    assert (world.status.plan.quotas, len(world.attempts)) == (["4 of 4 GPUs of quota team-a"], 1)
    assert world.condition("Planned")[2].endswith("; 4 of 4 GPUs of quota team-a")


def test_a_plan_that_waits_for_its_user_follows_the_quota():
    """planOnly: what is shown is what would run now."""
    world = examined_with(gpus(8), planOnly=True, resources={"optimizeFor": "time"})
    first = world.status.plan
    world.limits = gpus(2)
    world.settle()

    assert first is not None
    assert first.quotas == ["4 of 8 GPUs of quota team-a"]
    assert world.status.plan is not None
    assert world.status.plan.quotas == ["2 of 2 GPUs of quota team-a"]


def test_a_quota_that_was_lowered_before_the_pods_were_let_in_brings_a_smaller_plan():
    """Otherwise the job would wait for ever for GPUs that nobody may give it."""
    world = examined_with(gpus(8), resources={"optimizeFor": "time"})
    world.pods = {name: pod for name, pod in world.pods.items() if pod.role == "preflight"}
    world.refusal = Refusal(reason=WaitingReason.QUOTA_EXCEEDED, message="exceeded quota: team-a", at=NOW)
    world.limits = gpus(2)
    world.later(60).settle()

    assert world.status.plan is not None
    assert world.status.plan.quotas == ["2 of 2 GPUs of quota team-a"]
    assert world.status.plan.warnings[0] == (
        "lora on 4 x H100-80GB-HBM3 needs 4 GPUs (quota team-a allows 2): the quota was lowered after planning, and the job was "
        "planned again"
    )


def test_a_running_job_keeps_its_plan():
    """A lower quota ends nothing that runs, as in Kubernetes."""
    world = examined_with(gpus(8), resources={"optimizeFor": "time"}).run("bot-0-0").settle()
    before = world.status.plan
    world.limits = gpus(1)
    world.later(60).settle()

    assert world.status.plan == before
    assert "bot-0-0" in world.pods
