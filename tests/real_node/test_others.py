"""Others use the same names and write to the same objects."""

from typing import Any

import pytest

from tests.cluster.client import FINETUNE, Client
from tests.real_node.workspace import Workspace

pytestmark = pytest.mark.real_node

MOST_WRITES = 6000
"""By then a job that is examined in seconds has been planned, or never will be."""

GATED = {"schedulingGates": [{"name": "example.com/never"}], "containers": [{"name": "c", "image": "example.com/none"}]}
"""A Pod that never runs."""

RESTRICTED_POD = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "c",
            "image": "example.com/none",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
    ],
}


@pytest.mark.parametrize(
    ("kind", "name", "spec", "gpus"),
    [
        ("Pod", "taken-preflight-1", GATED | RESTRICTED_POD, 1),
        ("Service", "taken-0", {"clusterIP": "None", "ports": [{"port": 1}]}, 2),
    ],
)
def test_a_name_that_a_stranger_holds_ends_the_job_and_spares_the_stranger(
    workspace: Workspace, kind: str, name: str, spec: dict[str, Any], gpus: int
):
    """The message names the object and what to do."""
    metadata = {"name": name, "namespace": workspace.namespace}
    workspace.cluster.apply({"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec})
    workspace.submit("taken", resources={"gpus": gpus, "pools": ["real"]})
    workspace.cluster.kubectl(
        *("wait", "ftj/taken", "-n", workspace.namespace, "--for=jsonpath={.status.phase}=Failed", "--timeout=50s")
    )

    assert workspace.condition(workspace.status("taken"), "Succeeded") == (
        "False",
        "NameConflict",
        f"{kind} {name} already exists and does not belong to this job: delete it, or apply the job under a new name "
        "with another output.destination",
    )
    assert "deletionTimestamp" not in workspace.cluster.get(kind, name, "-n", workspace.namespace)["metadata"]


def test_a_job_that_somebody_else_writes_all_the_time_gets_on(workspace: Workspace):
    """A status that was decided on an older version is refused by the API server; what the others wrote stays."""
    path, writes = f"{FINETUNE}/namespaces/{workspace.namespace}/finetunejobs/busy", 0
    workspace.submit("busy", planOnly=True)
    client = Client(workspace.cluster.kubeconfig)
    while workspace.status("busy").get("phase") != "Planned" and writes < MOST_WRITES:
        for _ in range(100):
            writes += 1
            client.patch(path, {"metadata": {"annotations": {"example.com/writes": str(writes)}}})
    annotations = workspace.cluster.get("ftj", "busy", "-n", workspace.namespace)["metadata"]["annotations"]

    assert workspace.status("busy")["phase"] == "Planned"
    assert annotations["example.com/writes"] == str(writes)
