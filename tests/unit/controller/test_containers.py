"""A Pod with containers of others: what is ours is told by name, and theirs are named where they are the cause."""

from typing import Any

import pytest
from finetune_contract import Outcome, outcome_text
from finetune_operator.controller.seen import seen_pod, seen_pods
from finetune_operator.lifecycle.observation import SeenPod

AT = "2026-01-02T03:04:05Z"
LATER = "2026-01-02T03:09:05Z"
DONE = Outcome(outcome="Succeeded", reason="Published", message="published")
BROKEN = Outcome(outcome="Failed", reason="DatasetInvalid", message="row 7 has no messages")
RUNNING = {"running": {"startedAt": AT}}


def ended(code: int, message: str = "", reason: str = "", at: str = AT) -> dict[str, Any]:
    said = reason or ("Error" if code else "Completed")
    return {"terminated": {"exitCode": code, "reason": said, "message": message, "startedAt": AT, "finishedAt": at}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def statuses(**states: dict[str, Any]) -> list[dict[str, Any]]:
    """A kubelet sorts them by name."""
    return [{"name": name.replace("_", "-"), "state": state} for name, state in sorted(states.items())]


def a_pod(name: str = "j-0-0", labels: dict[str, str] | None = None, **status: Any) -> dict[str, Any]:
    owner = {"uid": "job", "controller": True, "kind": "FineTuneJob", "name": "j"}
    meta = {"name": name, "uid": name, "creationTimestamp": AT, "labels": labels or {}, "ownerReferences": [owner]}
    return {"metadata": meta, "spec": {}, "status": status}


def seen(name: str = "j-0-0", **status: Any) -> SeenPod:
    pod = seen_pod(a_pod(name, **status))
    assert pod is not None
    return pod


@pytest.mark.parametrize(
    ("code", "outcome", "phase"), [(0, DONE, "Succeeded"), (87, BROKEN, "Failed")], ids=["done", "failed"]
)
def test_our_containers_end_is_the_pods_end(code: int, outcome: Outcome, phase: str):
    """A mesh sidecar runs on: the Pod lingers, and what our container said counts."""
    ours = ended(code, outcome_text(outcome))

    pod = seen(phase="Running", containerStatuses=statuses(istio_proxy=RUNNING, trainer=ours))

    assert (pod.phase, pod.finished, pod.lingers, pod.exit_code, pod.outcome) == (phase, True, True, code, outcome)


def test_a_container_that_would_be_started_again_has_ended():
    """A webhook has changed the restartPolicy: what our container said counts, and the Pod is to go."""
    state = {"state": waiting("CrashLoopBackOff"), "lastState": ended(87, outcome_text(BROKEN))}

    pod = seen(phase="Running", containerStatuses=[{"name": "trainer", "restartCount": 1, **state}])

    assert (pod.phase, pod.lingers, pod.exit_code, pod.outcome) == ("Failed", True, 87, BROKEN)


@pytest.mark.parametrize("other", [0, 1, 137, 143])
def test_what_a_sidecar_exits_with_says_nothing(other: int):
    """Its code, message and time are its own, in whichever order they are listed, and whatever the Pod's phase became."""
    ours = ended(0, outcome_text(DONE))

    pod = seen(
        phase="Failed" if other else "Succeeded",
        containerStatuses=statuses(istio_proxy=ended(other, "proxy", at=LATER), trainer=ours),
    )

    assert (pod.phase, pod.lingers, pod.exit_code, pod.outcome) == ("Succeeded", False, 0, DONE)
    assert pod.finished_at is not None
    assert pod.finished_at.isoformat() == "2026-01-02T03:04:05+00:00"


def test_a_native_sidecar_that_is_killed_last():
    """The kubelet ends it after ours; the Pod succeeded."""
    pod = seen(
        phase="Succeeded",
        initContainerStatuses=statuses(istio_proxy=ended(137)),
        containerStatuses=statuses(trainer=ended(0, outcome_text(DONE))),
    )

    assert (pod.phase, pod.exit_code, pod.outcome, pod.culprit) == ("Succeeded", 0, DONE, "")


@pytest.mark.parametrize(
    ("others", "lingers"),
    [
        ({}, False),
        ({"initContainerStatuses": statuses(istio_init=ended(0))}, False),
        ({"initContainerStatuses": statuses(istio_proxy=RUNNING)}, True),
        ({"initContainerStatuses": statuses(istio_proxy=waiting("CrashLoopBackOff"))}, True),
    ],
    ids=["alone", "init container", "native sidecar", "native sidecar that crashes"],
)
def test_a_pod_lingers_only_for_containers_that_have_not_ended(others: dict[str, Any], lingers: bool):
    """A kubelet tells the end of the last container seconds before it calls the Pod ended. Its log must not be deleted."""
    ours = {"containerStatuses": statuses(preflight=ended(0, outcome_text(DONE)))}

    pod = seen("j-preflight-1", phase="Running", **ours, **others)

    assert (pod.phase, pod.finished, pod.lingers) == ("Succeeded", True, lingers)


def test_preflights_container_has_another_name():
    """It is told by the Pod's role."""
    ours = ended(0, outcome_text(DONE))

    pod = seen("j-preflight-3", phase="Running", containerStatuses=statuses(agent=RUNNING, preflight=ours))

    assert (pod.role, pod.generation, pod.finished, pod.lingers) == ("preflight", 3, True, True)


@pytest.mark.parametrize(
    ("initial", "regular", "expected"),
    [
        ({"istio_init": waiting("ImagePullBackOff", "no such image")}, {"trainer": waiting("PodInitializing")},
         ("ImagePullBackOff", "no such image", "istio-init")),
        ({"vault": waiting("CrashLoopBackOff")}, {"trainer": waiting("PodInitializing")},
         ("CrashLoopBackOff", "", "vault")),
        ({}, {"istio_proxy": waiting("ErrImagePull", "denied"), "trainer": waiting("ContainerCreating")},
         ("ErrImagePull", "denied", "istio-proxy")),
        ({}, {"istio_proxy": waiting("ErrImagePull"), "trainer": waiting("CreateContainerConfigError", "no secret")},
         ("CreateContainerConfigError", "no secret", "")),
        ({}, {"istio_proxy": waiting("ErrImagePull"), "trainer": RUNNING}, ("", "", "")),
    ],
    ids=["init container", "native sidecar", "sidecar", "ours first", "ours runs"],
)  # fmt: skip
def test_what_holds_our_container_back(
    initial: dict[str, Any], regular: dict[str, Any], expected: tuple[str, str, str]
):
    """Its own trouble, else another container's, which is named; nothing once it runs."""
    pod = seen(phase="Pending", initContainerStatuses=statuses(**initial), containerStatuses=statuses(**regular))

    assert (pod.waiting_reason, pod.waiting_message, pod.waiting_container) == expected


def test_an_init_container_that_failed_is_the_cause():
    """Ours never ran; the other one's exit code is not ours."""
    pod = seen(
        phase="Failed",
        initContainerStatuses=statuses(istio_init=ended(1, "iptables: no NET_ADMIN")),
        containerStatuses=statuses(trainer=waiting("PodInitializing")),
    )

    assert (pod.phase, pod.never_ran, pod.exit_code) == ("Failed", True, None)
    assert pod.culprit == "init container istio-init exited with code 1: iptables: no NET_ADMIN"


@pytest.mark.parametrize(
    "status",
    [
        {"phase": "Failed", "reason": "UnexpectedAdmissionError"},
        {"phase": "Failed", "reason": "Evicted", "containerStatuses": statuses(trainer=waiting("ContainerCreating"))},
        {"phase": "Failed", "containerStatuses": statuses(trainer=ended(128, "no device", "StartError"))},
    ],
    ids=["no status", "waiting", "could not be started"],
)
def test_a_container_that_never_ran(status: dict[str, Any]):
    """The Pod has ended without it."""
    assert seen(**status).never_ran


def test_a_container_that_ran_when_its_node_was_lost():
    """The Pod was given up while its container, as far as anybody knows, runs."""
    pod = seen(phase="Failed", reason="NodeLost", containerStatuses=statuses(trainer=RUNNING))

    assert (pod.phase, pod.never_ran) == ("Failed", False)


def test_a_replica_is_the_pod_of_our_name():
    """A copy under another name is none, whatever its labels and owner; changed labels change nothing."""
    ours = {"finetune.dev/role": "trainer", "finetune.dev/attempt": "0", "finetune.dev/replica": "0"}
    copy, relabelled = a_pod("j-0-0-copy", labels=ours), a_pod("j-1-2", labels=ours | {"finetune.dev/role": "debug"})

    (pod,) = seen_pods([copy, relabelled])

    assert (pod.name, pod.role, pod.attempt, pod.replica) == ("j-1-2", "trainer", 1, 2)


@pytest.mark.parametrize(
    ("status", "silent"),
    [
        ({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}, False),
        ({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}, True),
        ({"phase": "Running", "conditions": [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]}, True),
        ({"phase": "Running", "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}]}, False),
        ({"phase": "Unknown"}, True),
    ],
    ids=["ready", "not said by a kubelet", "unknown", "a sidecar is not ready", "phase unknown"],
)  # fmt: skip
def test_a_silent_node(status: dict[str, Any], silent: bool):
    """A kubelet gives a reason when a Pod is not ready; the controller that speaks for a dead one gives none."""
    pod = seen(**status, containerStatuses=statuses(trainer=RUNNING))

    assert (pod.phase, pod.node_silent) == ("Running", silent)
