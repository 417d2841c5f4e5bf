"""The chart's NetworkPolicies, enforced. All tests on real nodes run under them; here are those whom they keep out."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.cluster.client import eventually
from tests.real_node.images import OPERATOR
from tests.real_node.installation import MONITORING, SYSTEM, Installation, operators
from tests.real_node.workspace import ENDLESS, Workspace

pytestmark = pytest.mark.real_node

DIAL = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2)
    print("connected")
except OSError as error:
    print(type(error).__name__)
"""
"""Says TimeoutError where the packets vanish, ConnectionRefusedError where they arrive and nobody listens."""

METRICS, CLOSED = 8080, 9
"""A port on which the operator listens, and one on which nobody does."""


@dataclass(frozen=True)
class Stranger:
    """A Pod of a user that has nothing to do with the product."""

    workspace: Workspace
    name: str = "stranger"

    def start(self) -> None:
        """Run it; the image with Python in it that is on the nodes already."""
        image = self.workspace.installation.cluster.images[OPERATOR]
        serve = ["python3", "-m", "http.server", str(METRICS), "--directory", "/tmp"]
        container = {
            "name": "stranger",
            "image": image,
            "command": serve,
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        security = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
        spec = {"securityContext": security, "terminationGracePeriodSeconds": 0, "containers": [container]}
        metadata = {"name": self.name, "namespace": self.workspace.namespace}
        self.workspace.cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})

    def dials(self, address: str, port: int) -> str:
        """Return what becomes of a connection that it opens."""
        return self.workspace.execute(self.name, "python3", "-c", DIAL, address, str(port)).strip()

    def address(self) -> str:
        """Return its own address, once it runs."""
        self.workspace.cluster.kubectl(
            *("wait", f"pod/{self.name}", "-n", self.workspace.namespace, "--for=condition=Ready", "--timeout=50s")
        )
        return address(self.workspace, self.name, self.workspace.namespace)


def address(workspace: Workspace, pod: str, namespace: str) -> str:
    """Return the address of a Pod."""
    return str(workspace.cluster.get("pod", pod, "-n", namespace)["status"]["podIP"])


@pytest.fixture(scope="module")
def stranger(installation: Installation) -> Iterator[Stranger]:
    """A stranger in a user's namespace, next to a job that trains."""
    workspace = Workspace.make(installation)
    stranger = Stranger(workspace)
    stranger.start()
    workspace.submit("closed", **ENDLESS)
    yield stranger
    workspace.delete_all()
    workspace.cluster.kubectl("delete", "pod", stranger.name, "-n", workspace.namespace, "--wait=false")


def test_the_operator_reaches_the_api_server_and_no_pod(stranger: Stranger):
    """It serves on a port that the policy does not name; the policy of the API server's port lets the Lease be kept."""
    there = stranger.address()
    operator = operators(stranger.workspace.cluster)[0]["metadata"]["name"]
    dial = ("exec", operator, "-n", SYSTEM, "--", "python3", "-c", DIAL)
    said = stranger.workspace.cluster.kubectl(*dial, there, str(METRICS)).stdout.strip()
    api = stranger.workspace.cluster.kubectl(*dial, "kubernetes.default.svc", "443").stdout.strip()

    assert stranger.dials(there, METRICS) == "connected"
    assert (said, api) == ("TimeoutError", "connected")


def test_only_those_who_may_read_the_metrics_reach_them(stranger: Stranger):
    """The same Pod is kept out, and let in once its namespace has the label that the values name."""
    cluster, namespace = stranger.workspace.cluster, stranger.workspace.namespace
    stranger.address()
    operator = operators(stranger.workspace.cluster)[0]["metadata"]["name"]
    there = address(stranger.workspace, operator, SYSTEM)
    before = stranger.dials(there, METRICS)
    cluster.kubectl("label", "namespace", namespace, *(f"{key}={value}" for key, value in MONITORING.items()))

    assert before == "TimeoutError"
    eventually(lambda: stranger.dials(there, METRICS) == "connected", "the metrics answer", 20)
    assert stranger.dials(there, CLOSED) == "TimeoutError"


def test_only_trainers_reach_a_trainer(stranger: Stranger):
    """A stranger's packets vanish, and arrive once the policy is gone. Under it, the replicas of other tests meet."""
    workspace = stranger.workspace
    stranger.address()
    workspace.until("closed", lambda status: status.get("phase") == "Training", "Training")
    trainer = address(workspace, "closed-0-0", workspace.namespace)
    before = stranger.dials(trainer, CLOSED)
    workspace.cluster.kubectl("delete", "networkpolicy", "trainers", "-n", workspace.namespace)

    assert before == "TimeoutError"
    eventually(lambda: stranger.dials(trainer, CLOSED) == "ConnectionRefusedError", "the packets arrive", 20)
