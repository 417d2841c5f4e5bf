"""The roles that the chart makes are enough for an operator with the chart's own arguments, and reach no further."""

import json
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import pytest
from ruamel.yaml import YAML

from tests.cluster.client import FINETUNE, GARBAGE_SECONDS, Client, Raw, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.plays import POOL, Play, a_job
from tests.cluster.standin import StandIn
from tests.cluster.test_controller_runs import jobs, pods, reaches
from tests.servers.control_plane import ControlPlane
from tests.servers.helm import CHART, Helm, objects

pytestmark = pytest.mark.cluster

IDENTITY = {"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}


@dataclass(frozen=True)
class Installed:
    """The chart's roles and ServiceAccount, and nothing else of it."""

    arguments: tuple[str, ...]
    """What its operator would be started with."""
    kubeconfig: Path
    """Speaks as its ServiceAccount."""


def install(api: Client, control_plane: ControlPlane, namespace: str, folder: Path, *options: str) -> Installed:
    """Install the chart's roles and ServiceAccount as release `mine`."""
    manifests = objects(Helm().template(*options, release="mine", namespace=namespace))
    control_plane.apply(*(each for each in manifests if each["kind"] in IDENTITY))
    (deployment,) = (each for each in manifests if each["kind"] == "Deployment")
    command, *arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert command == "run"
    token = api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts/mine/token", {"spec": {}})
    return Installed(tuple(arguments), kubeconfig_of(api, token["status"]["token"], folder / "mine.conf"))


def kubeconfig_of(api: Client, token: str, path: Path) -> Path:
    """Write a kubeconfig with a token."""
    conf = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": api.host, "certificate-authority": api.ca_file}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    path.write_text(json.dumps(conf))
    return path


def refused(port: int) -> list[str]:
    """Return the operator's requests that were refused, from its metrics."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    requests = [line for line in lines if line.startswith("finetune_api_requests_total")]
    assert len(requests) >= 8  # kinds of requests, as one job needs them
    return [line for line in requests if 'code="403"' in line or 'code="401"' in line]


def test_the_rules_for_all_namespaces_are_enough(
    api: Client, control_plane: ControlPlane, standin: StandIn, namespace: str, start_operator: StartOperator,
    tmp_path: Path, free_port: int,
):  # fmt: skip
    """A gang, a suspension and a job that deletes itself, with a lease and all namespaces: nothing is refused."""
    eventually(lambda: not api.items(f"{FINETUNE}/finetunejobs"), "the jobs of earlier tests are gone", GARBAGE_SECONDS)
    mine = install(api, control_plane, namespace, tmp_path, f"--set=metrics.port={free_port}")
    start_operator("--leader-elect", *mine.arguments, kubeconfig=mine.kubeconfig, everywhere=True).start()
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
    eventually(lambda: "brief-0-0" not in names(api, namespace), "its Pods are gone", GARBAGE_SECONDS)

    assert refused(free_port) == []


def test_the_rules_for_one_namespace_are_enough(
    api: Client, control_plane: ControlPlane, standin: StandIn, namespace: str, start_operator: StartOperator,
    tmp_path: Path, free_port: int,
):  # fmt: skip
    """A Role in the namespace, no logs, and of the cluster only the pools: nothing is refused, the job succeeds."""
    least = (f"--set=metrics.port={free_port}", f"--set=namespaces={{{namespace}}}", "--set=rbac.podLogs=false")
    mine = install(api, control_plane, namespace, tmp_path, *least)
    start_operator("--leader-elect", *mine.arguments, kubeconfig=mine.kubeconfig, everywhere=True).start()
    api.create(jobs(namespace), a_job("one"))
    reaches(api, namespace, "one", "Succeeded")
    lease = api.get(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/mine")

    assert f"--namespace={namespace}" in mine.arguments
    assert lease["spec"]["holderIdentity"]
    assert refused(free_port) == []


def test_users_get_what_their_roles_say(api: Client, control_plane: ControlPlane, namespace: str, tmp_path: Path):
    """edit may run jobs, view may look; neither may touch pools. The aggregation is the controller manager's work."""
    install(api, control_plane, namespace, tmp_path)
    for role in ("edit", "view"):
        control_plane.kubectl(
            "create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}r", "-n", namespace
        )

    def may(user: str, verb: str, resource: str, *more: str) -> bool:
        asked = ("auth", "can-i", verb, resource, f"--as={user}", "-n", namespace, *more)
        return control_plane.kubectl(*asked, check=False).stdout.strip() == "yes"

    eventually(lambda: may("editr", "create", "finetunejobs.finetune.dev"), "edit is aggregated")
    eventually(lambda: may("viewr", "get", "finetunejobs.finetune.dev"), "view is aggregated")

    assert may("editr", "get", "finetunejobs.finetune.dev")
    assert may("viewr", "list", "finetuneplans.finetune.dev")
    assert [
        verb for verb in ("create", "update", "patch", "delete") if may("editr", verb, "finetuneplans.finetune.dev")
    ] == []
    assert not may("viewr", "create", "finetunejobs.finetune.dev")
    assert not may("editr", "create", "gpupools.finetune.dev")
    assert not may("editr", "update", "finetunejobs.finetune.dev", "--subresource=status")


def names(api: Client, namespace: str) -> set[str]:
    """Return the names of the Pods that exist."""
    return {each["metadata"]["name"] for each in api.items(pods(namespace))}


def rules() -> dict[str, list[Raw]]:
    return json.loads(json.dumps(YAML(typ="safe").load((CHART / "files/rbac-rules.yaml").read_text())))


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
        "finetuneplans",
        "finetunepolicies",
        "finetunepolicies/status",
        "gpupools",
        "gpupools/status",
        "leases",
        "limitranges",
        "localqueues/pendingworkloads",
        "nodes",
        "podgroups",
        "pods",
        "pods/log",
        "priorityclasses",
        "resourceflavors",
        "resourcequotas",
        "services",
        "workloadpriorityclasses",
        "workloads",
        "workloads/status",
    }
    assert {verb for _, _, verb in granted} == {"create", "delete", "get", "list", "patch", "update", "watch"}
    assert {verb for _, resource, verb in granted if resource == "nodes"} == {"list"}
