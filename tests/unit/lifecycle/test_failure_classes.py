"""Every way in which a Pod can end, and what follows: outcome, whether it counts, when the next attempt starts."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from finetune_contract import Outcome
from finetune_operator.lifecycle.endings import DISRUPTIONS, ending, explanation, lost, vanished

from tests.unit.lifecycle.lifecycle_builders import NOW, a_failure, a_pod, a_preemption, published
from tests.unit.lifecycle.world import a_training_world


def ended(exit_code: int | None, outcome: Outcome | None = None, **parts: Any) -> dict[str, Any]:
    """Return how a finished Pod looks."""
    return {"phase": "Failed", "exit_code": exit_code, "outcome": outcome, "finished_at": NOW, **parts}


def disrupted(reason: str, outcome: Outcome | None = None) -> dict[str, Any]:
    return ended(143 if outcome is None else 85, outcome, disruption=reason)


LOW_DISK = "The node was low on resource: ephemeral-storage. Threshold quantity: 32121498671, available: 30114200Ki."
USED_MORE = "Container trainer was using 90Gi, request is 60Gi, has larger consumption of ephemeral-storage."
SIDECARS = 'Container istio-proxy exceeded its local ephemeral storage limit "1Gi". '
REFUSED = ("NodeRefused", "NodeRefused")

CLASSES: list[tuple[str, dict[str, Any], str, str]] = [
    # name, Pod, outcome in a pool of capacity on-demand, outcome in a spot pool
    ("done", ended(0, published()) | {"phase": "Succeeded"}, "Succeeded", "Succeeded"),
    ("no last words", ended(0) | {"phase": "Succeeded"}, "TrainerError", "TrainerError"),
    ("saved on SIGTERM", ended(85, a_preemption(80)), "Preempted", "SpotReclaimed"),
    ("saved, words lost", ended(85), "Preempted", "SpotReclaimed"),
    ("scheduler took it", disrupted("PreemptionByScheduler"), "Preempted", "Preempted"),
    ("scheduler took it, saved", disrupted("PreemptionByScheduler", a_preemption(80)), "Preempted", "Preempted"),
    ("node gone", disrupted("DeletionByTaintManager"), "NodeLost", "SpotReclaimed"),
    ("node gone, saved", disrupted("DeletionByTaintManager", a_preemption(80)), "NodeLost", "SpotReclaimed"),
    ("drained", disrupted("EvictionByEvictionAPI"), "Evicted", "Evicted"),
    ("drained, saved", disrupted("EvictionByEvictionAPI", a_preemption(80)), "Evicted", "Evicted"),
    ("node deleted", disrupted("DeletionByPodGC"), "NodeLost", "SpotReclaimed"),
    ("node under pressure", disrupted("TerminationByKubelet"), "Evicted", "Evicted"),
    ("evicted", ended(137, pod_reason="Evicted", pod_message="The node was low on memory."), "Evicted", "Evicted"),
    (
        "evicted, disk",
        ended(137, pod_reason="Evicted", pod_message=f"{LOW_DISK} {USED_MORE}"),
        "StorageFull",
        "StorageFull",
    ),
    ("evicted, a sidecar's disk", ended(137, pod_reason="Evicted", pod_message=SIDECARS), "Evicted", "Evicted"),
    ("evicted, others filled the disk", ended(137, pod_reason="Evicted", pod_message=LOW_DISK), "Evicted", "Evicted"),
    (
        "evicted, emptyDir over its limit, saved",
        ended(
            85,
            a_preemption(80),
            pod_reason="Evicted",
            pod_message='Usage of EmptyDir volume "workspace" exceeds the limit "20Gi". ',
        ),
        "StorageFull",
        "StorageFull",
    ),
    ("node shut down", ended(143, pod_reason="Terminated"), "NodeLost", "SpotReclaimed"),
    ("scheduler's victim, by its reason", ended(143, pod_reason="Preempting"), "Preempted", "Preempted"),
    ("its own deadline", ended(137, pod_reason="DeadlineExceeded"), "Killed", "Killed"),
    ("built for arm64", ended(255, termination_message="exec /usr/bin/python: exec format error"), *REFUSED),
    ("lost by the kubelet", ended(137, terminated_reason="ContainerStatusUnknown"), "NodeLost", "SpotReclaimed"),
    ("lost by containerd", ended(255, terminated_reason="Unknown"), "NodeLost", "SpotReclaimed"),
    (
        "evicted and lost",
        ended(137, terminated_reason="ContainerStatusUnknown", pod_reason="Evicted"),
        "Evicted",
        "Evicted",
    ),
    ("SIGTERM, nothing saved", ended(143), "Killed", "SpotReclaimed"),
    ("SIGKILL", ended(137, terminated_reason="Error"), "Killed", "SpotReclaimed"),
    ("OOMKilled", ended(137, terminated_reason="OOMKilled"), "HostOutOfMemory", "HostOutOfMemory"),
    (
        "OOMKilled, the worker only",
        ended(137, a_failure("Killed"), terminated_reason="OOMKilled"),
        "HostOutOfMemory",
        "HostOutOfMemory",
    ),
    (
        "OOMKilled, a process it could do without",
        ended(0, published(), terminated_reason="OOMKilled") | {"phase": "Succeeded"},
        "Succeeded",
        "Succeeded",
    ),
    ("GPU memory", ended(86, a_failure("OutOfMemory")), "OutOfMemory", "OutOfMemory"),
    ("GPU memory, words lost", ended(86), "OutOfMemory", "OutOfMemory"),
    ("user", ended(87, a_failure("DatasetChanged")), "DatasetChanged", "DatasetChanged"),
    ("no GPU", ended(87, a_failure("NoAccelerator")), "NoAccelerator", "NoAccelerator"),
    ("an old image", ended(87, a_failure("TrainerOutdated")), "TrainerOutdated", "TrainerOutdated"),
    ("diverged", ended(87, a_failure("LossDiverged")), "LossDiverged", "LossDiverged"),
    ("peers lost", ended(1, a_failure("CommunicationTimeout")), "CommunicationTimeout", "CommunicationTimeout"),
    ("stalled", ended(1, a_failure("Stalled")), "Stalled", "Stalled"),
    ("disk full", ended(1, a_failure("StorageFull")), "StorageFull", "StorageFull"),
    ("bucket down", ended(1, a_failure("StorageUnavailable")), "StorageUnavailable", "StorageUnavailable"),
    ("traceback", ended(1), "TrainerError", "TrainerError"),
    ("unknown reason", ended(1, a_failure("Gremlins")), "TrainerError", "TrainerError"),
    ("claims success, exits 1", ended(1, published()), "TrainerError", "TrainerError"),
]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (ended(137), "Pod bot-0-0 was killed (exit code 137, SIGKILL)"),
        (ended(143, pod_reason="Shutdown"), "Pod bot-0-0 was killed (exit code 143, SIGTERM): Shutdown"),
        (ended(1), "Pod bot-0-0 exited with code 1: see its log"),
        (ended(255), "Pod bot-0-0 exited with code 255: see its log"),
        (ended(128, terminated_reason="StartError"), "Pod bot-0-0 exited with code 128: StartError"),
        (ended(None), "Pod bot-0-0 stopped without an exit code: see its log"),
    ],
)
def test_what_is_said_about_a_pod_that_left_no_outcome(parts: dict[str, Any], said: str):
    """The signal by its name; what a process printed last is in its log, not in a condition."""
    assert ending(a_pod(**parts), spot=False).message == said


@pytest.mark.parametrize(("pod", "outcome", "on_spot"), [c[1:] for c in CLASSES], ids=[c[0] for c in CLASSES])
def test_how_a_pod_ended(pod: dict[str, Any], outcome: str, on_spot: str):
    """The trainer's words first, then what Kubernetes says, then the exit code; a spot pool explains some of them."""
    seen = a_pod(**pod)

    assert (ending(seen, spot=False).outcome, ending(seen, spot=True).outcome) == (outcome, on_spot)


UNSTARTED = (
    "UnexpectedAdmissionError", "OutOfcpu", "OutOfnvidia.com/gpu", "OutOfpods", "NodeAffinity", "NodeName", "TaintToleration",
    "TopologyAffinityError", "SMTAlignmentError", "PodFeatureUnsupported", "VolumeAttachmentLimitExceeded",
    "SysctlForbidden", "AppArmor", "PodOSNotSupported", "DeadlineExceeded", "Evicted", "InvalidNodeInfo", "", "Gremlins",
)  # fmt: skip


@pytest.mark.parametrize("reason", UNSTARTED)
def test_a_pod_whose_container_never_ran_was_refused_whatever_its_reason(reason: str):
    """The node is to blame, not the job; the kubelet's words are kept."""
    pod = a_pod(**ended(None, pod_reason=reason, pod_message="words", never_ran=True, node_name="node-1"))

    end = ending(pod, spot=True)

    words = f"{reason}: words" if reason else "words"
    told = (
        "Pod bot-0-0 was evicted: words"
        if reason == "Evicted"
        else f"Pod bot-0-0 did not start on node node-1: {words}"
    )
    assert (end.outcome, end.blamed_node, end.message) == ("NodeRefused", "node-1", told)


@pytest.mark.parametrize(
    ("parts", "outcome"),
    [
        ({"disruption": "PreemptionByScheduler"}, "Preempted"),
        ({"pod_reason": "Preempting"}, "Preempted"),
        ({"pod_reason": "NodeShutdown"}, "NodeLost"),
        ({"disruption": "DeletionByPodGC"}, "NodeLost"),
    ],
)
def test_a_pod_that_was_taken_away_before_its_container_ran(parts: dict[str, Any], outcome: str):
    """Who took it is known: the node refused nothing."""
    assert ending(a_pod(**ended(None, never_ran=True, **parts)), spot=False).outcome == outcome


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"culprit": "init container istio-init exited with code 1: no NET_ADMIN", "node_name": "n"},
         "Pod bot-0-0 did not start on node n: init container istio-init exited with code 1: no NET_ADMIN"),
        ({"terminated_reason": "StartError", "termination_message": "no such device", "exit_code": 128},
         "Pod bot-0-0 did not start: StartError: no such device"),
        ({}, "Pod bot-0-0 did not start: no reason was given"),
    ],
)  # fmt: skip
def test_what_is_said_of_a_container_that_never_ran(parts: dict[str, Any], message: str):
    """Another container's fault, the runtime's words, or that nobody says why."""
    assert ending(a_pod(**ended(None, never_ran=True) | parts), spot=False).message == message


def test_every_disruption_reason_is_in_the_table():
    """The five that Kubernetes documents."""
    assert {pod["disruption"] for _, pod, *_ in CLASSES if "disruption" in pod} == set(DISRUPTIONS)


@dataclass(frozen=True)
class Follows:
    """What follows from an end in the first minute of a run: what it counts for, and the pause."""

    phase: str
    outcome: str
    without_progress: int
    pause: float | None
    micro_batch: int = 4


FOLLOWS = [
    ("saved", ended(85, a_preemption(80)), Follows("Planned", "Preempted", 0, None)),
    ("drained, saved", disrupted("EvictionByEvictionAPI", a_preemption(80)), Follows("Planned", "Evicted", 0, None)),
    ("drained", disrupted("EvictionByEvictionAPI"), Follows("Planned", "Evicted", 0, 10)),
    ("OOMKilled", ended(137, terminated_reason="OOMKilled"), Follows("Planned", "HostOutOfMemory", 1, 10)),
    ("GPU memory", ended(86, a_failure("OutOfMemory")), Follows("Planned", "OutOfMemory", 1, None, 2)),
    (
        "GPU memory after a checkpoint",
        ended(86, a_failure("OutOfMemory", step=80, checkpoint_step=60)),
        Follows("Planned", "OutOfMemory", 0, None, 2),
    ),
    ("user", ended(87, a_failure("DatasetChanged")), Follows("Failed", "DatasetChanged", 1, 86400)),
    ("traceback", ended(1), Follows("Planned", "TrainerError", 1, 10)),
]


@pytest.mark.parametrize(("pod", "follows"), [c[1:] for c in FOLLOWS], ids=[c[0] for c in FOLLOWS])
def test_what_follows(pod: dict[str, Any], follows: Follows):
    """A newer checkpoint costs nothing, memory asks for a leaner layout, the user's turn ends the job."""
    world = a_training_world().later(60)
    world.change("bot-0-0", **pod | {"finished_at": world.now}).settle()

    plan, decision = world.status.plan, world.decision
    assert plan is not None
    assert decision is not None
    assert follows == Follows(
        world.status.phase,
        world.attempts[0].outcome or "",
        world.status.attempts_without_progress,
        decision.requeue_after,
        plan.micro_batch_size,
    )


def test_the_pause_doubles_and_the_third_attempt_without_a_newer_checkpoint_is_the_last():
    """maxRetries 3: attempts 0, 1 and 2; the reason names the last one."""
    world = a_training_world()
    pauses = []
    for number in range(3):
        world.run(f"bot-{number}-0").settle().later(60)
        world.end(f"bot-{number}-0", 1, a_failure(message="CUDA error: device-side assert")).settle()
        assert world.decision is not None
        pauses.append(world.decision.requeue_after)
        world.later(pauses[-1] or 0).settle()

    assert pauses[:2] == [10, 20]
    assert world.created == ["bot-preflight-1", "bot-0-0", "bot-1-0", "bot-2-0"]
    assert world.condition("Succeeded") == (
        "False",
        "RetriesExhausted",
        "3 attempts in a row made no progress (runPolicy.maxRetries is 3). Attempt 3 failed with TrainerError: CUDA error: "
        "device-side assert. See `finetune logs`, fix the cause, then delete the job and apply it again",
    )
    assert world.condition("Stalled")[2].endswith(
        "; to retry, delete the job and apply it again; it resumes from its checkpoint if there is one"
    )
    assert (world.status.cost and world.status.cost.wasted_usd) == "0.18"


@pytest.mark.parametrize(
    "pod",
    [
        ended(None, pod_reason="UnexpectedAdmissionError", never_ran=True),
        disrupted("PreemptionByScheduler"),
        disrupted("EvictionByEvictionAPI"),
        disrupted("DeletionByTaintManager"),
    ],
    ids=["refused", "preempted", "drained", "node gone"],
)
def test_the_clusters_faults_do_not_count_and_end_the_job_after_a_day(pod: dict[str, Any]):
    """The pause doubles up to ten minutes; no number of them fails the job, 24 hours of nothing else do."""
    world = a_training_world()
    pauses, number = [], 0
    while world.status.phase != "Failed":
        world.change(f"bot-{number}-0", **pod | {"finished_at": world.now}).settle()
        assert world.decision is not None
        pauses.append(world.decision.requeue_after)
        if world.status.phase != "Failed":
            number += 1
            world.later(pauses[-1] or 0).settle().run(f"bot-{number}-0").settle()

    assert world.status.attempts_without_progress == 0
    assert (pauses[:8], len(pauses)) == ([10, 20, 40, 80, 160, 320, 600, 600], 150)
    status, reason, message = world.condition("Succeeded")
    assert (status, reason) == ("False", "RetriesExhausted")
    assert message.startswith("for 24 hours the cluster stopped every attempt (150 in a row), most recently with ")


def test_a_checkpoint_ends_a_row_of_the_clusters_faults():
    """What got somewhere was not for nothing: pause and patience start again."""
    world = a_training_world()
    world.change("bot-0-0", **disrupted("PreemptionByScheduler") | {"finished_at": world.now}).settle()
    assert (world.status.disruptions, world.status.disrupted_since) == (1, "2026-01-31T12:00:00Z")
    world.later(10).settle().run("bot-1-0").settle()

    world.change(
        "bot-1-0", **disrupted("PreemptionByScheduler", a_preemption(80)) | {"finished_at": world.now}
    ).settle()

    assert (world.status.disruptions, world.status.disrupted_since) == (0, None)


def test_a_node_that_refused_a_pod_is_avoided_by_the_next_attempt():
    """Once is enough: nothing of ours ran there."""
    world = a_training_world()
    world.change("bot-0-0", **ended(None, pod_reason="UnexpectedAdmissionError", never_ran=True)).settle()

    (pod,) = world.later(10).one_pass().create

    terms = [{"key": "metadata.name", "operator": "NotIn", "values": ["node-1"]}]
    affinity = pod["spec"]["affinity"]["nodeAffinity"]
    assert affinity["preferredDuringSchedulingIgnoredDuringExecution"] == [
        {"weight": 100, "preference": {"matchFields": terms}}
    ]


def test_progress_forgives_all_earlier_failures():
    """Two failures, then one that moved the checkpoint forward: the count starts again."""
    world = a_training_world()
    counts = []
    for number, outcome in enumerate([a_failure(), a_failure(), a_failure(step=30, checkpoint_step=20), a_failure()]):
        world.run(f"bot-{number}-0").settle().later(60).end(f"bot-{number}-0", 1, outcome).settle()
        counts.append(world.status.attempts_without_progress)
        world.later(600).settle()

    assert counts == [1, 2, 0, 1]
    assert [entry.first_step for entry in world.attempts] == [0, 0, 0, 20, 20]


def test_the_pause_ends_at_ten_minutes():
    """A run that may fail often does not wait for hours."""
    world = a_training_world(runPolicy={"maxRetries": 20})
    pauses = []
    for number in range(9):
        world.run(f"bot-{number}-0").settle().end(f"bot-{number}-0", 1, a_failure()).settle()
        assert world.decision is not None
        pauses.append(world.decision.requeue_after)
        world.later(600).settle()

    assert pauses == [10, 20, 40, 80, 160, 320, 600, 600, 600]


def test_a_leaner_layout_keeps_the_global_batch_and_ends_where_nothing_is_left():
    """Micro batch 4, 2, 1: after that the job does not fit, and the message says what would."""
    world = a_training_world(method="lora", runPolicy={"maxRetries": 10})
    layouts = []
    for number in range(3):
        plan = world.status.plan
        assert plan is not None
        layouts.append((plan.micro_batch_size, plan.gradient_accumulation_steps, plan.activation_checkpointing))
        world.run(f"bot-{number}-0").settle().end(
            f"bot-{number}-0", 86, a_failure("OutOfMemory", "tried 2 GiB")
        ).settle()

    assert layouts == [(4, 8, False), (2, 16, True), (1, 32, True)]
    assert world.condition("Succeeded") == (
        "False",
        "DoesNotFit",
        "the GPU ran out of memory even with micro batch 1 and activation checkpointing; the plan estimated 12.92 of 79.10 "
        "GiB: lower training.sequenceLength, use method qlora, or use a pool with more GPU memory, and apply the job under a "
        "new name with another output.destination",
    )
    warnings = world.status.plan.warnings if world.status.plan else []
    assert warnings[-1] == (
        "an attempt ran out of GPU memory with micro batch 2: the next one uses micro batch 1 and activation "
        "checkpointing. The memory estimate is still that of the original layout"
    )


def test_what_explains_an_attempt():
    """Of several ends the one that caused the others: the user's turn, a cause, or whatever came first."""
    later = NOW + timedelta(seconds=5)
    killed = ending(a_pod(**ended(137)), spot=False)
    user = ending(a_pod(**ended(87, a_failure("DatasetChanged"), replica=1) | {"finished_at": later}), spot=False)
    memory = ending(a_pod(**ended(86, replica=1) | {"finished_at": later}), spot=False)
    peers = ending(a_pod(**ended(1, a_failure("CommunicationTimeout"), replica=1) | {"finished_at": later}), spot=False)
    silent = lost(a_pod(node_name="node-2", replica=2), spot=False)
    gone = vanished("bot-0-3", 3)
    done = ending(a_pod(**ended(0, published(), replica=4)), spot=False)

    assert explanation((killed, user, memory)) == user
    assert explanation((killed, memory)) == memory
    assert explanation((peers, killed)) == killed
    assert explanation((peers, silent)) == silent
    assert explanation((gone, peers)) == peers
    assert explanation((done, gone)) == gone
