"""Admission that changes what the operator creates, or takes its time: the operator still sees its Pods, or says why it cannot."""

import base64
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.cluster.client import ApiError, Client, Raw, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.kubelet import POOL, Kubelet, ended
from tests.cluster.plays import training_succeeds
from tests.cluster.test_situations_words import has_policies
from tests.servers.control_plane import ControlPlane

pytestmark = pytest.mark.cluster

ADMISSION = "/apis/admissionregistration.k8s.io"
REPLACED = '[JSONPatch{op: "replace", path: "/metadata/labels", value: {"cost-centre": "42"}}]'
"""What a webhook does that sets labels without regard to those that are there."""


@pytest.fixture
def relabels(api: Client, namespace: str) -> Iterator[Callable[..., None]]:
    """Return what lets a policy replace all labels of Pods in the test's namespace."""
    version = next((each for each in ("v1", "v1beta1") if has_policies(api, each)), "")
    if not version:
        pytest.skip("this API server mutates by webhooks only")
    made: list[str] = []

    def make(plural: str, kind: str, spec: Raw) -> None:
        meta = {"apiVersion": f"admissionregistration.k8s.io/{version}", "kind": kind, "metadata": {"name": namespace}}
        api.create(f"{ADMISSION}/{version}/{plural}", meta | {"spec": spec})
        made.append(f"{ADMISSION}/{version}/{plural}/{namespace}")

    def relabel(*operations: str) -> None:
        rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": list(operations), "resources": ["pods"]}
        within = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
        spec = {
            "matchConstraints": {"resourceRules": [rule], "namespaceSelector": within},
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": REPLACED}}],
        }
        make("mutatingadmissionpolicies", "MutatingAdmissionPolicy", spec)
        make("mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding", {"policyName": namespace})
        eventually(lambda: is_relabelled(api, namespace), "the policy is in force")

    yield relabel
    for path in made:
        api.delete(path)


def is_relabelled(api: Client, namespace: str) -> bool:
    """Tell whether a Pod would get other labels than it asks for."""
    pod = {"metadata": {"name": "x", "labels": {"a": "b"}}, "spec": {"containers": [{"name": "x", "image": "x"}]}}
    made = api.create(f"/api/v1/namespaces/{namespace}/pods?dryRun=All", pod)
    return made["metadata"]["labels"] == {"cost-centre": "42"}


def test_labels_that_admission_replaces_are_put_back(
    api: Client, kubelet: Kubelet, relabels: Callable[..., None], start_operator: StartOperator
):
    """The Pods are watched by them, and the Service of a gang selects by them; the policy's own label stays."""
    relabels("CREATE")
    start_operator().start()
    kubelet.apply("relabelled", resources={"pools": [POOL], "gpus": 16}, training={"globalBatchSize": 16})
    for replica in range(2):
        kubelet.run(f"relabelled-0-{replica}")
    kubelet.says("relabelled", "Running")

    selector = api.get(f"/api/v1/namespaces/{kubelet.namespace}/services/relabelled-0")["spec"]["selector"]
    labels = api.get(kubelet.path("relabelled-0-1"))["metadata"]["labels"]
    assert selector.items() <= labels.items()
    assert labels["cost-centre"] == "42"
    for replica in range(2):
        kubelet.status(f"relabelled-0-{replica}", "Succeeded", {"trainer": ended(training_succeeds())})
    kubelet.says("relabelled", "Published", "Succeeded")


def test_labels_that_cannot_be_put_back_are_told(
    api: Client, kubelet: Kubelet, relabels: Callable[..., None], start_operator: StartOperator
):
    """No Pod stays that nobody would see; the job goes on when the policy is lifted."""
    relabels("CREATE", "UPDATE")
    start_operator().start()
    kubelet.apply("unseen", planOnly=True)

    kubelet.says(
        "unseen",
        "PodRefused: an admission webhook or policy changes the labels finetune.dev/generation, finetune.dev/job-name, "
        "finetune.dev/job-uid, finetune.dev/role of Pod unseen-preflight-1, and the operator cannot find it without them: exempt "
        "objects with the label app.kubernetes.io/managed-by=finetune-operator from it",
    )
    kubelet.gone("unseen-preflight-1")


def test_a_webhook_that_hangs_delays_a_job_and_does_not_stop_it(
    api: Client, control_plane: ControlPlane, kubelet: Kubelet, namespace: str, start_operator: StartOperator
):
    """It may take 30 s before it is ignored: whoever hangs up earlier never gets a Pod, and asks again for ever."""
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    hooks = f"{ADMISSION}/v1/mutatingwebhookconfigurations"
    with silent_server(control_plane.state.pki) as port:
        authority = base64.b64encode((control_plane.state.pki / "ca.crt").read_bytes()).decode()
        hook = {
            "name": "slow.example.com",
            "clientConfig": {"url": f"https://127.0.0.1:{port}/", "caBundle": authority},
            "rules": [rule],
            "failurePolicy": "Ignore",
            "sideEffects": "None",
            "timeoutSeconds": 30,
            "admissionReviewVersions": ["v1"],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        }
        kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration"}
        api.create(hooks, kind | {"metadata": {"name": namespace}, "webhooks": [hook]})
        try:
            eventually(lambda: is_held_up(api, namespace), "the webhook is asked")
            start_operator().start()
            kubelet.apply("slow", planOnly=True)
            kubelet.says("slow", "PlanOnly", seconds=90)
        finally:
            api.delete(f"{hooks}/{namespace}")


@contextmanager
def silent_server(pki: Path) -> Iterator[int]:
    """Serve TLS with a certificate of the cluster, and answer nothing. Yields the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "kubelet.crt", pki / "kubelet.key")
    asked: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with suppress(OSError):  # closed
                while True:
                    asked.append(context.wrap_socket(server.accept()[0], server_side=True))

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
    for each in asked:
        each.close()


def is_held_up(api: Client, namespace: str) -> bool:
    """Tell whether the creation of a Pod takes longer than a second."""
    pod = {"metadata": {"name": "x"}, "spec": {"containers": [{"name": "x", "image": "x"}]}}
    try:
        api.create(f"/api/v1/namespaces/{namespace}/pods?dryRun=All&timeout=1s", pod)
    except ApiError as error:
        return error.status == 504
    return False
