"""The table of endings, row by row through the API server, and what follows: refusals, preemption, evictions."""

from typing import Any

import pytest
from finetune_operator.lifecycle.ending_table import DISRUPTIONS, POD_REASONS, TAKEN_AWAY

from tests.cluster.client import Client, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.kubelet import RUNNING, Kubelet, ended, exited, waits
from tests.cluster.plays import Play
from tests.cluster.standin import StandIn, now_text

pytestmark = pytest.mark.cluster

LOW_DISK = "The node was low on resource: ephemeral-storage. Threshold quantity: 32121498671, available: 30114200Ki. "
USED_MORE = "Container trainer was using 90Gi, request is 60Gi, has larger consumption of ephemeral-storage. "
REFUSALS = (
    "UnexpectedAdmissionError", "OutOfcpu", "OutOfmemory", "OutOfpods", "OutOfephemeral-storage", "OutOfnvidia.com/gpu",
    "NodeAffinity", "NodeName", "TaintToleration", "TopologyAffinityError", "SMTAlignmentError", "PodFeatureUnsupported",
    "VolumeAttachmentLimitExceeded", "SysctlForbidden", "AppArmor", "PodOSNotSupported", "DeadlineExceeded", "Evicted",
    "InvalidNodeInfo", "UnknownReasonOfTomorrow",
)  # fmt: skip


def disruption(reason: str) -> list[dict[str, str]]:
    return [{"type": "DisruptionTarget", "status": "True", "reason": reason, "lastTransitionTime": now_text()}]


ROWS: list[tuple[str, str, dict[str, Any]]] = [
    *((f"refused: {reason}", "NodeRefused", {"reason": reason, "message": "no"}) for reason in REFUSALS),
    *((f"taken away: {why}", str(POD_REASONS[why]), {"reason": why}) for why in sorted(TAKEN_AWAY)),
    *(
        (f"disrupted: {why}", str(outcome), {"conditions": disruption(why), "containers": {"trainer": exited(143)}})
        for why, outcome in DISRUPTIONS.items()
    ),
    *(
        (f"stopped: {why}", str(outcome), {"reason": why, "containers": {"trainer": exited(137)}})
        for why, outcome in POD_REASONS.items()
    ),
    (
        "lost by the kubelet",
        "NodeLost",
        {"containers": {"trainer": exited(137, "not located", "ContainerStatusUnknown")}},
    ),
    ("lost by containerd", "NodeLost", {"containers": {"trainer": exited(255, "", "Unknown")}}),
    ("could not be started", "NodeRefused", {"containers": {"trainer": exited(128, "no such device", "StartError")}}),
    ("cannot run", "NodeRefused", {"containers": {"trainer": exited(127, "not found", "ContainerCannotRun")}}),
    ("waits for ever", "NodeRefused", {"containers": {"trainer": waits("ContainerCreating")}}),
    ("another processor", "NodeRefused", {"containers": {"trainer": exited(255, "exec python: exec format error")}}),
    ("out of memory", "HostOutOfMemory", {"containers": {"trainer": exited(137, reason="OOMKilled")}}),
    ("disk, by others", "Evicted", {"reason": "Evicted", "message": LOW_DISK, "containers": {"trainer": exited(137)}}),
    ("disk, before it ran", "NodeRefused", {"reason": "Evicted", "message": LOW_DISK}),
    (
        "disk, by itself",
        "StorageFull",
        {"reason": "Evicted", "message": f"{LOW_DISK}{USED_MORE}", "containers": {"trainer": exited(137)}},
    ),
    ("disk", "StorageFull", {"reason": "Evicted", "message": "ephemeral", "containers": {"trainer": exited(137)}}),
    ("SIGKILL", "Killed", {"containers": {"trainer": exited(137)}}),
    ("SIGTERM", "Killed", {"containers": {"trainer": exited(143)}}),
    ("saved", "Preempted", {"containers": {"trainer": exited(85)}}),
    ("GPU memory", "OutOfMemory", {"containers": {"trainer": exited(86)}}),
    ("crash", "TrainerError", {"containers": {"trainer": exited(1)}}),
    ("no words", "TrainerError", {"containers": {"trainer": exited(0)}}),
]


def first_outcome(kubelet: Kubelet, name: str, how: dict[str, Any]) -> str:
    """Let the first Pod of a job end as a row says; return the outcome of the attempt."""
    containers = how.get("containers")
    told = {key: value for key, value in how.items() if key != "containers"}
    kubelet.bound(f"{name}-0-0")
    ended_state = (containers or {}).get("trainer", {}).get("terminated")
    if ended_state:
        kubelet.status(f"{name}-0-0", "Running", {"trainer": RUNNING})
    done = ended_state is not None and ended_state["exitCode"] == 0
    kubelet.status(f"{name}-0-0", "Succeeded" if done else "Failed", containers, **told)
    outcome = kubelet.attempt(name, 0)["outcome"]
    kubelet.discard(name)
    return str(outcome)


def test_every_row_of_the_table_of_endings(kubelet: Kubelet, start_operator: StartOperator):
    """One job per row, eight at a time: the outcome of its first attempt is what the table says."""
    start_operator("--retry-back-off-seconds=600").start()
    found: dict[str, str] = {}
    for first in range(0, len(ROWS), 8):
        batch = {f"row-{first + number}": row for number, row in enumerate(ROWS[first : first + 8])}
        for name in batch:
            kubelet.apply(name, resources={"pools": ["manual"], "gpus": 1})
        found |= {words: first_outcome(kubelet, name, how) for name, (words, _, how) in batch.items()}

    assert found == {words: outcome for words, outcome, _ in ROWS}


def test_a_node_that_refuses_pods_is_avoided_and_costs_no_attempt(kubelet: Kubelet, start_operator: StartOperator):
    """Its device plugin has lost a GPU: with maxRetries 1 the job still runs, on the next node."""
    start_operator().start()
    kubelet.apply("refused", runPolicy={"maxRetries": 1})
    node = kubelet.bound("refused-0-0")["spec"]["nodeName"]

    kubelet.status("refused-0-0", "Failed", reason="UnexpectedAdmissionError", message="no healthy devices")

    assert kubelet.attempt("refused", 0)["failedNode"] == node
    assert kubelet.bound("refused-1-0")["spec"]["nodeName"] != node
    status = kubelet.job("refused")["status"]
    assert (status["refusedNodes"], status.get("attemptsWithoutProgress", 0)) == ([node], 0)


def test_preflight_is_refused_more_often_than_it_may_fail(
    api: Client, standin: StandIn, kubelet: Kubelet, start_operator: StartOperator
):
    """Three refusals are no failure: the fourth try examines."""
    name = "pre-refused-preflight-1"
    standin.held.add(name)
    start_operator().start()
    kubelet.apply("pre-refused", planOnly=True, runPolicy={"maxRetries": 2})
    for times in range(1, 4):
        pod = kubelet.bound(name)
        kubelet.status(name, "Failed", reason="OutOfpods", message="too many")
        eventually(
            lambda times=times: kubelet.job("pre-refused")["status"].get("disruptions") == times, "it is counted apart"
        )
        kubelet.gone(name, pod["metadata"]["uid"])

    standin.held.remove(name)

    eventually(lambda: kubelet.client.find(kubelet.path(name)), "a fourth try")
    assert kubelet.job("pre-refused")["status"]["phase"] != "Failed"


def test_three_preemptions_while_the_image_is_pulled(kubelet: Kubelet, start_operator: StartOperator):
    """Somebody else's priority is nobody's fault: the job goes on with attempt 4 although maxRetries is 2."""
    start_operator().start()
    kubelet.apply("outranked", runPolicy={"maxRetries": 2})
    for number in range(3):
        pod = f"outranked-{number}-0"
        kubelet.bound(pod)
        kubelet.status(pod, "Pending", conditions=disruption("PreemptionByScheduler"))
        kubelet.remove(pod)
        assert kubelet.attempt("outranked", number)["outcome"] == "Preempted"

    kubelet.bound("outranked-3-0")


def test_a_node_that_restarts_costs_no_attempt(kubelet: Kubelet, start_operator: StartOperator):
    """The kubelet finds the container gone, and says neither why nor when: with maxRetries 1 the job goes on."""
    start_operator().start()
    kubelet.apply("rebooted", runPolicy={"maxRetries": 1})
    node = kubelet.run("rebooted-0-0")["spec"]["nodeName"]
    kubelet.says("rebooted", "Running")

    state = exited(137, "The container could not be located when the pod was terminated", "ContainerStatusUnknown")
    state["terminated"] |= {"startedAt": None, "finishedAt": None}
    kubelet.status("rebooted-0-0", "Failed", {"trainer": state})

    first = kubelet.attempt("rebooted", 0)
    assert (first["outcome"], first["message"]) == (
        "NodeLost",
        f"node {node} lost the container of Pod rebooted-0-0, as after a restart of the node or its container runtime",
    )
    kubelet.bound("rebooted-1-0")
    assert kubelet.job("rebooted")["status"].get("attemptsWithoutProgress", 0) == 0


def test_a_trainer_that_crashes_still_counts(kubelet: Kubelet, start_operator: StartOperator):
    """Two crashes with maxRetries 2 end the job; one remedy is given, not two."""
    start_operator().start()
    kubelet.apply("crashes", runPolicy={"maxRetries": 2})
    for number in range(2):
        kubelet.run(f"crashes-{number}-0")
        kubelet.status(f"crashes-{number}-0", "Failed", {"trainer": ended(Play(exit_code=1))})
        kubelet.attempt("crashes", number)

    stalled = kubelet.says("crashes", "RetriesExhausted", "Stalled")["message"]
    assert stalled.endswith(
        "to retry, delete the job and apply it again; it resumes from its checkpoint if there is one"
    )
    assert "under a new name" not in stalled
