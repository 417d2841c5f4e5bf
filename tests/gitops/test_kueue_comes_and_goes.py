"""Kueue installed after a job has asked for it, and removed while jobs run: waiting jobs say so, running ones go on."""

from pathlib import Path

import pytest

from tests.cluster.client import Client, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.plays import GPU_NODE, LABEL, Play, preempted
from tests.cluster.standin import StandIn
from tests.cluster.test_controller_runs import jobs, pods, reaches
from tests.gitops.kueue import kueue, queues
from tests.gitops.test_kueue import RESOURCES, queued, said
from tests.servers.control_plane import ControlPlane

pytestmark = pytest.mark.gitops

WORKLOADS = "workloads.kueue.x-k8s.io"
ABSENT = (
    "Queued",
    "QueueUnavailable",
    "spec.queueName is train, but Kueue is not installed in this cluster: install it, or delete the job and apply it without queueName",
)


def test_kueue_may_come_later_and_go_again(
    api: Client, control_plane: ControlPlane, standin: StandIn, namespace: str, start_operator: StartOperator, tmp_path: Path
):  # fmt: skip
    """The first job waits for Kueue and runs through it; when Kueue goes, it runs on and the next one waits."""
    control_plane.kubectl("delete", "crd", WORKLOADS, "--ignore-not-found")
    standin.scripts["early"] = {"0": Play(hold=True), "sigterm": preempted(3)}
    start_operator().start()
    api.create(jobs(namespace), queued("early", 8))
    eventually(lambda: said(api, namespace, "early") == ABSENT, "the job says that there is no Kueue", 60)
    with kueue(api, control_plane, tmp_path):
        control_plane.apply(*queues(8, namespace, {LABEL: GPU_NODE}, RESOURCES))
        reaches(api, namespace, "early", "Training")
    control_plane.kubectl("delete", "crd", WORKLOADS)
    api.create(jobs(namespace), queued("late", 8))
    eventually(lambda: said(api, namespace, "late") == ABSENT, "the next job says that there is no Kueue", 60)

    assert said(api, namespace, "early")[0] == "Training"
    assert api.get(f"{pods(namespace)}/early-0-0")["status"]["phase"] == "Running"
