"""Others use the same names and write to the same objects."""

import json
from typing import Any

import pytest

from tests.cluster.client import FINETUNE, Client
from tests.real_node.audit import asked, requests
from tests.real_node.workspace import Workspace

pytestmark = pytest.mark.real_node

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
        f"{kind} {name} exists and does not belong to this job: delete it, or give the job another name",
    )
    assert "deletionTimestamp" not in workspace.cluster.get(kind, name, "-n", workspace.namespace)["metadata"]


def test_a_job_that_somebody_else_writes_all_the_time_gets_on(workspace: Workspace):
    """A status that was decided on an older version is refused by the API server; the operator looks again."""
    log, path = workspace.installation.cluster.audit_log, f"{FINETUNE}/namespaces/{workspace.namespace}/finetunejobs"
    workspace.submit("busy", planOnly=True)
    client, writes = Client(workspace.cluster.kubeconfig), 0
    looked_again = False
    while not looked_again and writes < 6000:
        writes += 1
        client.patch(f"{path}/busy", {"metadata": {"annotations": {"example.com/writes": str(writes)}}})
        if writes % 100 == 0:
            toggled = {"spec": {"suspend": writes % 200 == 0}}
            client.patch(f"{path}/busy", toggled)
            looked_again = ("get", "finetune.dev/finetunejobs") in {asked(entry) for entry in requests(log)}
    workspace.change("busy", {"suspend": False})
    status = workspace.until("busy", lambda status: status.get("phase") == "Planned", "Planned", 60)
    annotations = workspace.cluster.get("ftj", "busy", "-n", workspace.namespace)["metadata"]["annotations"]

    assert looked_again, json.dumps(status)
    assert annotations["example.com/writes"] == str(writes)
