"""What holds for every decision, from any state that a job, its Pods and their node can get into."""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from finetune_contract import Outcome
from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.lifecycle.conditions import has_ended
from finetune_operator.lifecycle.decide import decide
from finetune_operator.lifecycle.observation import Decision, Observation
from finetune_operator.lifecycle.passing import is_settled
from finetune_operator.lifecycle.recheck import may_mend
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.lifecycle.lifecycle_builders import (
    JOB_UID,
    a_failure,
    a_pod,
    a_pool,
    a_preemption,
    a_progress,
    examined,
    published,
)
from tests.unit.lifecycle.world import World, a_planned_world, a_training_world, a_world

MOST_PASSES = 10
EXAMPLES = int(os.environ.get("FINETUNE_EXAMPLES", "60"))
"""Stories per run; the environment asks for more: 2,000 take about a minute."""

OTHER_POOL = a_pool(pricePerGPUHourUSD="7.20", provisioningSeconds=100)
OTHER_POOL = OTHER_POOL.model_copy(update={"metadata": OTHER_POOL.metadata.model_copy(update={"name": "other"})})
"""Where a job goes that may leave its pool."""

ENDS: list[tuple[int, Outcome | None]] = [
    (0, published()), (0, None), (1, None), (1, a_failure("CommunicationTimeout")), (85, a_preemption(30)),
    (85, a_preemption(30, checkpoint_step=0)), (86, a_failure("OutOfMemory")), (87, a_failure("DatasetChanged")),
    (137, None), (143, None),
]  # fmt: skip
EXAMINATIONS: list[tuple[int, Outcome | None]] = [
    (0, examined()), (87, a_failure("ModelNotFound")), (1, a_failure("StorageUnavailable")), (137, None),
    (0, published(reason="AlreadyPublished")),
]  # fmt: skip

Act = Callable[[World, int], None]


def ours(world: World) -> list[str]:
    return sorted(name for name, pod in world.pods.items() if pod.owner_uid == JOB_UID)


def on_some_pod(act: Callable[[World, str, int], None]) -> Act:
    """Do something to one of the Pods, if there is one."""

    def acted(world: World, pick: int) -> None:
        if names := ours(world):
            act(world, names[pick % len(names)], pick)

    return acted


def ends(world: World, name: str, pick: int) -> None:
    pod = world.pods[name]
    if pod.finished or not pod.node_name:
        return
    choices = EXAMINATIONS if pod.role == "preflight" else ENDS
    code, outcome = choices[pick % len(choices)]
    world.end(name, code, outcome)


def runs(world: World, name: str, pick: int) -> None:
    if not world.pods[name].finished and not world.pods[name].gated:
        world.run(name, f"node-{pick % 3}")


def finds_no_node(world: World, name: str, _: int) -> None:
    if not world.pods[name].node_name:
        world.change(name, unschedulable="0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")


def node_dies(world: World, name: str, pick: int) -> None:
    pod = world.pods[name]
    if pod.node_name and not pod.finished:
        world.change(
            name, deleting=True, delete_by=world.now - timedelta(seconds=60), disruption="DeletionByTaintManager"
        )


def reports(world: World, pick: int) -> None:
    phase = ["training", "loading", "publishing"][pick % 3]
    world.report(a_progress(pick % 170, checkpoint_step=pick % 170 // 2, phase=phase))


def broken_pass(world: World, pick: int) -> None:
    """The operator is killed after the status, or after some of what it wanted to create, ungate and delete."""
    checked_decision(world)
    world.one_pass(most=1 + pick % 4)


ACTS: dict[str, Act] = {
    "pass": lambda world, _: checked_pass(world),
    "pass, but dies in the middle": broken_pass,
    "time": lambda world, pick: void(world.later([1, 20, 90, 1500][pick % 4])),
    "runs": on_some_pod(runs),
    "ends": on_some_pod(ends),
    "finds no node": on_some_pod(finds_no_node),
    "dies with its node": on_some_pod(node_dies),
    "vanishes": on_some_pod(lambda world, name, _: void(world.vanish(name))),
    "is deleted": on_some_pod(lambda world, name, _: world.remove(name)),
    "reports": reports,
    "quota": lambda world, pick: setattr(world, "quota", [0, 2, 100][pick % 3]),
    "suspend": lambda world, pick: void(world.edit(suspend=bool(pick % 2))),
    "gone": lambda world, _: void(world.reap()),
    "operator forgets": lambda world, _: setattr(world, "refusal", None),
}


def void(_: object) -> None:
    """Drop a result."""


def checked_pass(world: World) -> Decision:
    checked_decision(world)
    return world.one_pass()


def checked_decision(world: World) -> Decision:
    """Decide, and hold the decision against everything that must be true of any."""
    seen = world.observe()
    decision = decide(world.job, seen, world.now)
    again = decide(world.job.model_copy(update={"status": decision.status}), seen, world.now)
    assert again.status == decision.status, "deciding on its own output changes nothing"
    if is_settled(decision.status):
        assert again == replace(decision, events=again.events), "nothing follows a status that stays where it is"
    assert decision.status.observed_generation == world.job.metadata.generation
    written = decision.status.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert FineTuneJobStatus.model_validate(written) == decision.status, "the API server takes what is written"
    one_attempt_at_a_time(world, seen, decision)
    deletes_only_its_own(seen, decision)
    if has_ended(world.status) and has_ended(decision.status):
        made = {item["metadata"]["labels"]["finetune.dev/role"] for item in decision.create}
        assert made <= ({"preflight"} if may_mend(world.status) else set()), "an ended job is at most examined again"
        assert decision.status.attempts == world.status.attempts
    return decision


def one_attempt_at_a_time(world: World, seen: Observation, decision: Decision) -> None:
    attempts = decision.status.attempts or []
    running = [entry.number for entry in attempts if entry.outcome is None]
    assert len(running) <= 1
    assert [entry.number for entry in attempts] == sorted({entry.number for entry in attempts})
    created = {int(item["metadata"]["labels"].get("finetune.dev/attempt", -1)) for item in decision.create} - {-1}
    assert created <= set(running), "Pods are created only for the attempt that is in status"
    dead = timedelta(seconds=30)
    live = {
        pod.attempt
        for pod in seen.pods
        if pod.role == "trainer" and pod.owner_uid == JOB_UID and not pod.finished
        if pod.delete_by is None or world.now < pod.delete_by + dead
    }
    assert not created or live <= created, "the last attempt's Pods are gone before the next one's are created"


def deletes_only_its_own(seen: Observation, decision: Decision) -> None:
    by_uid = {pod.uid: pod for pod in seen.pods}
    listed = {entry.number for entry in decision.status.attempts or ()}
    for child in decision.delete:
        if child.kind == "Pod":
            pod = by_uid[child.uid]
            assert pod.owner_uid == JOB_UID
            record = pod.role == "trainer" and pod.finished and pod.attempt in listed
            retained = not has_ended(decision.status) or decision.status.completion_time is None
            assert not (record and retained), "finished Pods keep their logs while the job runs"


def obeys(world: World) -> None:
    """Let the node do what deletions ask for."""
    for name in ours(world):
        pod = world.pods[name]
        if pod.deleting and not pod.finished:
            world.end(name, 85, a_preemption(30) if pod.role == "trainer" else None)
    world.reap()


def state(world: World) -> tuple[Any, ...]:
    return (world.job, dict(world.pods), set(world.services))


acts = st.lists(st.tuples(st.sampled_from(sorted(ACTS)), st.integers(0, 1000)), max_size=14)
beginnings = st.sampled_from([a_world, a_planned_world, a_training_world])
specs = st.fixed_dictionaries(
    {},
    optional={
        "resources": st.sampled_from([{"gpus": 1}, {"gpus": 3}, {"failover": True}]),
        "runPolicy": st.sampled_from([
            {"maxRetries": 1}, {"budget": {"maxCostUSD": "0.05"}}, {"activeDeadlineSeconds": 30},
            {"podRetentionSeconds": 60, "ttlSecondsAfterFinished": 0},
        ]),
        "planOnly": st.booleans(),
    },
)  # fmt: skip


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(beginning=beginnings, spec=specs, story=acts)
def test_every_decision_keeps_the_rules_and_every_story_comes_to_rest(
    beginning: Callable[..., World], spec: dict[str, Any], story: list[tuple[str, int]]
):
    """Whatever happened, ten passes with an obedient node later nothing changes any more, and no rule was broken."""
    world = beginning(**{"training": {"globalBatchSize": 32}, **spec})
    world.pools = (*world.pools, OTHER_POOL)
    stranger = replace(a_pod(name="bot-0-9", uid="stranger"), owner_uid="somebody-else", replica=9)
    world.pods["bot-0-9"] = stranger
    for name, pick in story:
        ACTS[name](world, pick)

    for _ in range(MOST_PASSES):
        before = state(world)
        checked_pass(world)
        obeys(world)
        if state(world) == before:
            break
    else:
        raise AssertionError(f"no rest after {MOST_PASSES} passes: {world.decision}")
    assert world.pods["bot-0-9"] == stranger
