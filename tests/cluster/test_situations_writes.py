"""Writes that the API server does not let through: each is told with its words, by condition or Event, metric and log."""

from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import pytest

from tests.cluster.client import Client, Raw, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.kubelet import POOL, Kubelet, ended
from tests.cluster.plays import preempted, training_succeeds

pytestmark = pytest.mark.cluster

ADMISSION = "/apis/admissionregistration.k8s.io/v1"


class Denials:
    """Policies that deny one verb on one resource in the test's namespace, and webhooks that do not answer."""

    def __init__(self, api: Client, namespace: str) -> None:
        self.api, self.namespace, self.made = api, namespace, []

    def deny(self, verb: str, resource: str, group: str = "") -> None:
        """Deny it, and wait until that is in force."""
        name = f"{self.namespace}-{verb.lower()}"
        rule = {"apiGroups": [group], "apiVersions": ["*"], "operations": [verb], "resources": [resource]}
        within = {"matchLabels": {"kubernetes.io/metadata.name": self.namespace}}
        spec = {
            "matchConstraints": {"resourceRules": [rule], "namespaceSelector": within},
            "failurePolicy": "Fail",
            "validations": [{"expression": "false", "message": "not on a Friday"}],
        }
        self._make("validatingadmissionpolicies", "ValidatingAdmissionPolicy", name, {"spec": spec})
        binding = {"policyName": name, "validationActions": ["Deny"]}
        self._make("validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", name, {"spec": binding})

    def break_webhook(self, resource: str) -> None:
        """Let a webhook that nobody serves be asked about each creation."""
        name = f"{self.namespace}-webhook"
        rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [resource]}
        hook = {
            "name": "down.example.com",
            "clientConfig": {"url": "https://127.0.0.1:1/"},
            "rules": [rule],
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.namespace}},
        }
        self._make("mutatingwebhookconfigurations", "MutatingWebhookConfiguration", name, {"webhooks": [hook]})

    def _make(self, plural: str, kind: str, name: str, body: dict[str, Any]) -> None:
        meta = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}}
        self.api.create(f"{ADMISSION}/{plural}", meta | body)
        self.made.append(f"{ADMISSION}/{plural}/{name}")

    def lift(self) -> None:
        """Allow everything again."""
        while self.made:
            self.api.delete(self.made.pop())


@pytest.fixture
def denials(api: Client, namespace: str) -> Iterator[Denials]:
    made = Denials(api, namespace)
    yield made
    made.lift()


def in_force(api: Client, path: str, body: Raw) -> None:
    """Wait until a dry run is refused: a policy is compiled a moment after it was made."""

    def refused() -> bool:
        try:
            api.request("POST", f"{path}?dryRun=All", body)
        except Exception:  # noqa: BLE001  # any refusal is what is waited for
            return True
        return False

    eventually(refused, "the denial is in force")


def a_stranger(name: str = "stranger") -> Raw:
    spec = {"containers": [{"name": "x", "image": "x"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def told(api: Client, namespace: str, job: str, words: str) -> Raw:
    """Wait for an Event about a job that holds some words."""
    path = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"

    def look() -> Raw | None:
        about = (each for each in api.items(path) if each["regarding"].get("name") == job)
        return next((each for each in about if words in each.get("note", "")), None)

    return eventually(look, f"an Event about {job} says {words!r}")


def test_a_webhook_that_is_down_is_told_and_waited_for(
    api: Client, kubelet: Kubelet, denials: Denials, start_operator: StartOperator
):
    """The server's words are in the condition and in an Event; the job goes on by itself."""
    denials.break_webhook("pods")
    in_force(api, f"/api/v1/namespaces/{kubelet.namespace}/pods", a_stranger())
    operator = start_operator()
    operator.start()
    kubelet.apply("hooked")

    kubelet.says(
        "hooked", "WriteFailed: cannot create Pod hooked-preflight-1: Internal error occurred: failed calling webhook"
    )
    told(api, kubelet.namespace, "hooked", "failed calling webhook")
    assert f"job={kubelet.namespace}/hooked" in operator.text

    denials.lift()
    kubelet.bound("hooked-0-0")
    kubelet.says("hooked", "Starting")


def test_pods_that_may_not_be_deleted_are_told(
    api: Client, kubelet: Kubelet, denials: Denials, start_operator: StartOperator, free_port: int
):
    """The user suspends and a policy denies; once it is lifted the suspension goes through."""
    start_operator(f"--port={free_port}").start()
    kubelet.apply("denied")
    kubelet.run("denied-0-0")
    kubelet.says("denied", "Running")
    denials.deny("DELETE", "pods")

    def deletion_is_denied() -> bool:
        try:
            api.request("DELETE", f"{kubelet.path('denied-preflight-1')}?dryRun=All")
        except Exception:  # noqa: BLE001  # any refusal is what is waited for
            return True
        return False

    eventually(deletion_is_denied, "the policy is in force")
    api.patch(f"{kubelet.jobs}/denied", {"spec": {"suspend": True}})

    found = kubelet.says("denied", "WriteFailed: cannot delete Pod denied-0-0: ")
    assert "not on a Friday" in found["message"]
    assert "the trainer saves a checkpoint" in found["message"]
    with urlopen(f"http://127.0.0.1:{free_port}/metrics", timeout=5) as answer:
        assert 'finetune_failed_writes_total{error="Forbidden"}' in answer.read().decode()

    denials.lift()
    eventually(lambda: "deletionTimestamp" in api.get(kubelet.path("denied-0-0"))["metadata"], "it is deleted", 90)
    kubelet.status("denied-0-0", "Failed", {"trainer": ended(preempted(3))})
    kubelet.remove("denied-0-0")
    kubelet.says("denied", "Suspended: spec.suspend is true")


def test_a_status_that_may_not_be_written_is_told_by_an_event(
    api: Client, kubelet: Kubelet, denials: Denials, start_operator: StartOperator
):
    """Nothing else of the job can say it; the log names the job."""
    denials.deny("UPDATE", "finetunejobs/status", "finetune.dev")
    operator = start_operator()
    operator.start()
    eventually(lambda: api.items(f"{ADMISSION}/validatingadmissionpolicies"), "the policy is there")
    kubelet.apply("mute")

    told(api, kubelet.namespace, "mute", "cannot write the status of this job: ")
    assert f"job={kubelet.namespace}/mute" in operator.text


def test_a_service_that_may_not_be_created_again_is_told(
    api: Client, kubelet: Kubelet, denials: Denials, start_operator: StartOperator
):
    """A refusal of the API server, for a gang that runs: its Pods train on."""
    start_operator().start()
    kubelet.apply("gang", resources={"pools": [POOL], "gpus": 16}, training={"globalBatchSize": 16})
    for replica in range(2):
        kubelet.run(f"gang-0-{replica}")
    kubelet.says("gang", "Running")
    service = f"/api/v1/namespaces/{kubelet.namespace}/services"
    denials.break_webhook("services")
    ports = {"ports": [{"port": 80}]}
    in_force(api, service, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": ports})
    api.delete(f"{service}/gang-0")

    kubelet.says("gang", "WriteFailed: cannot create Service gang-0: ")
    for replica in range(2):
        kubelet.status(f"gang-0-{replica}", "Succeeded", {"trainer": ended(training_succeeds())})
    denials.lift()
    kubelet.says("gang", "Published", "Succeeded")
