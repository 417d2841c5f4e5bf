"""Pods with containers of others, as meshes and webhooks add them: status, message, exit code and log are those of ours."""

import pytest

from tests.cluster.client import Client, Raw, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.kubelet import RUNNING, Kubelet, ended, exited, waits
from tests.cluster.plays import preempted, preflight_succeeds, training_fails, training_succeeds
from tests.cluster.standin import StandIn

pytestmark = pytest.mark.cluster


def started(kubelet: Kubelet, start_operator: StartOperator, name: str) -> str:
    """Start an operator and a job; return its trainer Pod, which has a node."""
    start_operator().start()
    kubelet.apply(name)
    kubelet.bound(f"{name}-0-0")
    return f"{name}-0-0"


def test_a_sidecar_that_runs_on_does_not_hold_the_job(kubelet: Kubelet, start_operator: StartOperator):
    """Our container's end is the Pod's end: the job succeeds, and the Pod with its GPUs is deleted."""
    pod = started(kubelet, start_operator, "mesh")
    kubelet.status(pod, "Running", {"istio-proxy": RUNNING, "trainer": RUNNING})
    kubelet.says("mesh", "Running")

    kubelet.status(pod, "Running", {"istio-proxy": RUNNING, "trainer": ended(training_succeeds())})

    kubelet.says("mesh", "Published", "Succeeded")
    kubelet.gone(pod)
    status = kubelet.job("mesh")["status"]
    assert (status["adapterURI"], status["attempts"][0]["outcome"]) == ("s3://bucket/out/adapter", "Succeeded")


def test_a_users_mistake_is_told_although_a_sidecar_runs_on(kubelet: Kubelet, start_operator: StartOperator):
    """The trainer's words end the job; the sidecar's exit code 0 afterwards is nobody's business."""
    pod = started(kubelet, start_operator, "mistake")
    broken = ended(training_fails("DatasetInvalid", "row 7 has no messages", exit_code=87))

    kubelet.status(pod, "Running", {"istio-proxy": RUNNING, "trainer": broken})

    kubelet.says("mistake", "DatasetInvalid: row 7 has no messages", "Succeeded")
    kubelet.gone(pod)
    assert [each["outcome"] for each in kubelet.job("mistake")["status"]["attempts"]] == ["DatasetInvalid"]


def test_a_container_that_is_started_again_in_its_pod_has_ended(
    api: Client, kubelet: Kubelet, start_operator: StartOperator
):
    """A webhook has made the restartPolicy OnFailure: the user's mistake is told, and the Pod gives its GPUs back."""
    pod = started(kubelet, start_operator, "restarts")
    kubelet.status(pod, "Running", {"trainer": RUNNING})
    kubelet.says("restarts", "Running")

    mistake = ended(training_fails("DatasetInvalid", "row 7 has no messages", exit_code=87))
    held = waits("CrashLoopBackOff", "back-off 10s restarting failed container")
    container = {"name": "trainer", "image": "x", "imageID": "", "restartCount": 1, "ready": False, "started": False}
    status = {"phase": "Running", "containerStatuses": [container | {"state": held, "lastState": mistake}]}
    api.patch(f"{kubelet.path(pod)}/status", {"status": status})

    kubelet.says("restarts", "DatasetInvalid: row 7 has no messages", "Succeeded")
    kubelet.gone(pod)


@pytest.mark.parametrize("code", [0, 143])
def test_a_sidecar_that_quits_is_not_the_trainer(kubelet: Kubelet, start_operator: StartOperator, code: int):
    """Both have ended; the kubelet lists the sidecar first."""
    name = f"quit-{code}"
    pod = started(kubelet, start_operator, name)
    states = {"istio-proxy": exited(code), "trainer": ended(training_succeeds())}

    kubelet.status(pod, "Failed" if code else "Succeeded", states)

    kubelet.says(name, "Published", "Succeeded")
    assert kubelet.job(name)["status"]["evaluation"]["tunedLoss"].startswith("1.5")


def test_a_native_sidecar_that_is_killed_last_is_not_the_trainer(kubelet: Kubelet, start_operator: StartOperator):
    """It is an init container to the API, and the kubelet ends it with 137 after ours."""
    pod = started(kubelet, start_operator, "native")

    kubelet.status(pod, "Succeeded", {"trainer": ended(training_succeeds())}, {"istio-proxy": exited(137)})

    kubelet.says("native", "Published", "Succeeded")


def test_a_preempted_trainer_with_a_sidecar_goes_on_from_its_checkpoint(
    kubelet: Kubelet, start_operator: StartOperator
):
    """What it saved is kept, and the next attempt waits until the Pod with its GPUs is gone."""
    pod = started(kubelet, start_operator, "saved")

    kubelet.status(pod, "Running", {"agent": RUNNING, "trainer": ended(preempted(9))})

    ended_attempt = kubelet.attempt("saved", 0)
    assert (ended_attempt["outcome"], ended_attempt["checkpointStep"]) == ("Preempted", 9)
    kubelet.gone(pod)
    assert kubelet.attempt("saved", 1, ended=False)["firstStep"] == 9


def test_preflight_with_a_sidecar_that_never_ends(
    api: Client, standin: StandIn, kubelet: Kubelet, start_operator: StartOperator
):
    """Its report is read and its Pod deleted; the plan is made."""
    standin.held.add("mesh-pre-preflight-1")
    start_operator().start()
    kubelet.apply("mesh-pre", planOnly=True)
    kubelet.bound("mesh-pre-preflight-1")

    kubelet.status(
        "mesh-pre-preflight-1", "Running", {"istio-proxy": RUNNING, "preflight": ended(preflight_succeeds())}
    )

    kubelet.says("mesh-pre", "PlanOnly")
    kubelet.gone("mesh-pre-preflight-1")


@pytest.mark.parametrize(
    ("initial", "containers", "words"),
    [
        ({"istio-init": waits("ImagePullBackOff", "no such image")}, {"trainer": waits("PodInitializing")},
         "ImagePullFailed: attempt 1: container istio-init of Pod held-0-0: ImagePullBackOff: no such image"),
        ({}, {"istio-proxy": waits("CreateContainerError", "no sandbox"), "trainer": waits("ContainerCreating")},
         "CannotStart: attempt 1: container istio-proxy of Pod held-0-0 cannot start yet: CreateContainerError: no sandbox"),
    ],
    ids=["init container", "sidecar"],
)  # fmt: skip
def test_a_container_that_holds_ours_back_is_named(
    kubelet: Kubelet, start_operator: StartOperator, initial: Raw, containers: Raw, words: str
):
    """Whose image cannot be pulled, whose container cannot be created."""
    pod = started(kubelet, start_operator, "held")

    kubelet.status(pod, "Pending", containers, initial)

    kubelet.says("held", words)


def test_an_init_container_that_failed_is_named_as_the_cause(kubelet: Kubelet, start_operator: StartOperator):
    """Ours never ran: the node is avoided and the attempt does not count."""
    pod = started(kubelet, start_operator, "init")
    failed = exited(1, "iptables: no NET_ADMIN")

    kubelet.status(pod, "Failed", {"trainer": waits("PodInitializing")}, {"istio-init": failed})

    first, status = kubelet.attempt("init", 0), kubelet.job("init")["status"]
    assert first["message"].endswith("init container istio-init exited with code 1: iptables: no NET_ADMIN")
    assert (first["outcome"], status.get("attemptsWithoutProgress", 0)) == ("NodeRefused", 0)


def test_the_log_that_is_read_is_our_containers(kubelet: Kubelet, start_operator: StartOperator):
    """With two containers the API server asks for a name: ours is given, so nothing answers 400."""
    operator = start_operator("--port=0", "--log-level=DEBUG")
    operator.start()
    kubelet.apply("logs")
    pod = kubelet.bound("logs-0-0")["metadata"]["name"]
    kubelet.status(pod, "Running", {"istio-proxy": RUNNING, "trainer": RUNNING})
    kubelet.says("logs", "Running")

    eventually(lambda: "log could not be read" in operator.text, "the stand-in has no log to read")
    assert "a container name must be specified" not in operator.text
