"""The rules in the chart are enough, and every one of them is used."""

import json
from pathlib import Path
from urllib.request import urlopen

import pytest
from ruamel.yaml import YAML

from tests.cluster.client import FINETUNE, Client, Raw, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.standin import POOL, Play, StandIn, a_job
from tests.cluster.test_controller_runs import jobs, pods, reaches

pytestmark = pytest.mark.cluster

RULES = Path(__file__).parents[2] / "charts/finetune-operator/files/rbac-rules.yaml"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


def rules() -> dict[str, list[Raw]]:
    return json.loads(json.dumps(YAML(typ="safe").load(RULES.read_text())))


@pytest.fixture
def limited(api: Client, namespace: str, tmp_path: Path) -> Path:
    """A kubeconfig of a ServiceAccount that may do what the chart grants, cluster-wide, and nothing else."""
    grants = rules()
    name = f"operator-{namespace}"
    subject = {"kind": "ServiceAccount", "name": "operator", "namespace": namespace}
    api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "operator"}})
    wide = grants["cluster"] + grants["namespaced"] + grants["podLogs"]
    api.create(f"{RBAC}/clusterroles", {"metadata": {"name": name}, "rules": wide})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    binding = {"metadata": {"name": name}, "roleRef": role, "subjects": [subject]}
    api.create(f"{RBAC}/clusterrolebindings", binding)
    own = f"{RBAC}/namespaces/{namespace}"
    api.create(f"{own}/roles", {"metadata": {"name": "leader"}, "rules": grants["lease"]})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "leader"}
    api.create(f"{own}/rolebindings", {"metadata": {"name": "leader"}, "roleRef": role, "subjects": [subject]})
    token = api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts/operator/token", {"spec": {}})
    path = tmp_path / "limited.conf"
    cluster = {"server": api.host, "certificate-authority": api.ca_file}
    conf = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": token["status"]["token"]}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    path.write_text(json.dumps(conf))
    return path


def test_the_granted_rules_are_enough(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator, limited: Path, free_port: int
):
    """A gang, a suspension and a job that deletes itself, with a lease and all namespaces: nothing is refused."""
    options = ("--leader-elect", f"--lease-namespace={namespace}", f"--port={free_port}")
    start_operator(*options, kubeconfig=limited, everywhere=True).start()
    api.create(
        jobs(namespace), a_job("gang", resources={"pools": [POOL], "gpus": 16}, training={"globalBatchSize": 16})
    )
    api.create(jobs(namespace), a_job("brief", runPolicy={"ttlSecondsAfterFinished": 1, "podRetentionSeconds": 0}))

    standin.scripts["held"] = {"0": Play(hold=True)}
    api.create(jobs(namespace), a_job("held"))

    def usage() -> bool:
        status = api.get(f"{FINETUNE}/gpupools/{POOL}").get("status", {})
        return (status.get("nodes"), status.get("gpus"), status.get("gpusInUseByJobs", 0) > 0) == (1, 20000, True)

    reaches(api, namespace, "gang", "Succeeded")
    eventually(usage, "the pool counts 1 node, 20000 GPUs, and those in use")
    eventually(lambda: api.find(f"{jobs(namespace)}/brief") is None, "brief deletes itself", 45)
    eventually(lambda: "brief-0-0" not in names(api, namespace), "its Pods are gone", 45)

    with urlopen(f"http://127.0.0.1:{free_port}/metrics", timeout=5) as answer:
        requests = [
            line for line in answer.read().decode().splitlines() if line.startswith("finetune_api_requests_total")
        ]
    assert [line for line in requests if 'code="403"' in line or 'code="401"' in line] == []
    assert len(requests) > 10


def names(api: Client, namespace: str) -> set[str]:
    """Return the names of the Pods that exist."""
    return {each["metadata"]["name"] for each in api.items(pods(namespace))}


def test_no_rule_reaches_further_than_named():
    """No wildcard, no Secret, no exec, no right to grant rights: whatever is added has to pass here."""
    granted = {
        (group, resource, verb)
        for rule in (each for part in rules().values() for each in part)
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }

    assert {resource for _, resource, _ in granted} == {
        "events",
        "finetunejobs",
        "finetunejobs/finalizers",
        "finetunejobs/status",
        "gpupools",
        "gpupools/status",
        "leases",
        "nodes",
        "pods",
        "pods/log",
        "services",
    }
    assert {verb for _, _, verb in granted} == {"create", "delete", "get", "list", "patch", "update", "watch"}
    assert {verb for _, resource, verb in granted if resource == "nodes"} == {"list"}
