"""A Pod's status as the API server sends it -> what a decision sees."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from finetune_contract import Outcome, outcome_text
from finetune_operator.api.status import AttemptStatus, FineTuneJob
from finetune_operator.controller.seen import seen_pod, unrecorded
from finetune_operator.lifecycle.observation import SeenPod

from tests.unit.smallest_spec import SMALLEST_SPEC

AT = "2026-01-02T03:04:05Z"
THEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def a_pod(status: dict[str, Any], **spec: Any) -> dict[str, Any]:
    labels = {"finetune.dev/role": "trainer", "finetune.dev/attempt": "2", "finetune.dev/replica": "1"}
    owner = {"uid": "job", "controller": True, "kind": "FineTuneJob", "name": "j"}
    meta = {"name": "j-2-1", "uid": "pod", "creationTimestamp": AT, "labels": labels, "ownerReferences": [owner]}
    return {"metadata": meta, "spec": spec, "status": status}


def expected(**fields: Any) -> SeenPod:
    base: dict[str, Any] = {
        "name": "j-2-1",
        "uid": "pod",
        "role": "trainer",
        "owner_uid": "job",
        "attempt": 2,
        "replica": 1,
    }
    return SeenPod(**base, created_at=THEN, **fields)


def container(state: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": "trainer", "state": state}]


def test_a_gated_pod():
    """Only our own gate counts."""
    gates = [{"name": "kueue.x-k8s.io/admission"}, {"name": "finetune.dev/gang"}]

    assert seen_pod(a_pod({"phase": "Pending"}, schedulingGates=gates)) == expected(
        gated=True, other_gates=("kueue.x-k8s.io/admission",)
    )
    assert seen_pod(a_pod({"phase": "Pending"}, schedulingGates=gates[:1])) == expected(
        gated=False, other_gates=("kueue.x-k8s.io/admission",)
    )


@pytest.mark.parametrize(
    ("status", "spec", "ignored_by"),
    [
        ({}, {}, "volcano"),
        ({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}, {}, "volcano"),
        ({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}, {}, ""),
        ({}, {"nodeName": "gpu-1"}, ""),
        ({}, {"schedulingGates": [{"name": "finetune.dev/gang"}]}, ""),
    ],
    ids=["no condition", "a gate that is lifted", "considered", "bound", "gated"],
)
def test_a_pod_that_no_scheduler_has_looked_at(status: dict[str, Any], spec: dict[str, Any], ignored_by: str):
    """The scheduler's first word is a condition; that of a gate is the API server's."""
    pod = seen_pod(a_pod({"phase": "Pending", **status}, schedulerName="volcano", **spec))

    assert pod is not None
    assert pod.ignored_by == ignored_by


def test_a_pod_that_no_node_can_take():
    """The scheduler's own words."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: no GPUs"}

    assert seen_pod(a_pod({"phase": "Pending", "conditions": [condition]})) == expected(
        unschedulable="0/3 nodes: no GPUs"
    )


def test_a_pod_whose_image_cannot_be_pulled():
    """Waiting reason and message of the container; it is scheduled already."""
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": AT}
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    status = {"phase": "Pending", "conditions": [scheduled], "containerStatuses": container(waiting)}

    assert seen_pod(a_pod(status, nodeName="n1")) == expected(
        scheduled_at=THEN,
        node_name="n1",
        taken_in=True,
        waiting_reason="ImagePullBackOff",
        waiting_message="no such image",
    )


def test_a_pod_that_failed_with_an_outcome():
    """Exit code, reason, time, and the parsed outcome."""
    outcome = Outcome(outcome="Failed", reason="OutOfMemory", message="CUDA out of memory", step=7)
    ended = {"exitCode": 86, "reason": "Error", "message": outcome_text(outcome), "finishedAt": AT}
    status = {"phase": "Failed", "containerStatuses": container({"terminated": ended})}

    assert seen_pod(a_pod(status)) == expected(
        phase="Failed",
        taken_in=True,
        finished_at=THEN,
        exit_code=86,
        terminated_reason="Error",
        termination_message=outcome_text(outcome),
        outcome=outcome,
    )


def test_a_pod_that_died_with_a_traceback():
    """No outcome: the last lines of the log are in the log."""
    ended = {"exitCode": 1, "reason": "Error", "message": "Traceback ...", "finishedAt": AT}
    status = {"phase": "Failed", "containerStatuses": container({"terminated": ended})}

    assert seen_pod(a_pod(status)) == expected(
        phase="Failed",
        taken_in=True,
        finished_at=THEN,
        exit_code=1,
        terminated_reason="Error",
        termination_message="Traceback ...",
    )


def test_an_evicted_pod():
    """The Pod's own reason and the disruption, without any container status."""
    target = {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}
    status = {"phase": "Failed", "reason": "Evicted", "message": "low on memory", "conditions": [target]}

    assert seen_pod(a_pod(status)) == expected(
        phase="Failed",
        pod_reason="Evicted",
        pod_message="low on memory",
        disruption="TerminationByKubelet",
        never_ran=True,
    )


def a_running_job(**attempt: Any) -> FineTuneJob:
    """Return the job of the Pods, in attempt 2."""
    last = AttemptStatus(number=2, start_time=AT, **attempt)
    metadata = {
        "name": "j",
        "namespace": "team",
        "uid": "job",
        "generation": 1,
        "resourceVersion": "1",
        "creationTimestamp": AT,
    }
    job = FineTuneJob.model_validate({"metadata": metadata, "spec": SMALLEST_SPEC})
    return job.model_copy(update={"status": job.status.model_copy(update={"attempts": [last]})})


def test_a_trainer_that_ended_and_went_is_seen_until_its_end_is_recorded():
    """As a Pod that is being deleted: nobody deletes it again."""
    gone = expected(phase="Failed", exit_code=85)

    assert unrecorded(a_running_job(), (), (gone,)) == (replace(gone, deleting=True),)
    assert unrecorded(a_running_job(outcome="Evicted"), (), (gone,)) == ()


def test_other_pods_that_went_are_past():
    """One that nobody saw end, one whose name is in use again, a former job's, another attempt's, preflight's."""
    gone = expected(phase="Failed", exit_code=85)
    others = (
        replace(gone, phase="Running"),
        replace(gone, name="j-2-0"),
        replace(gone, owner_uid="former"),
        replace(gone, attempt=1),
        replace(gone, role="preflight"),
    )

    assert unrecorded(a_running_job(), (replace(expected(), name="j-2-0"),), others) == ()
