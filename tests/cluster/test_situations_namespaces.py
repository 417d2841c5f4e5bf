"""An operator of several namespaces: one that is forbidden or deleted is skipped, said, counted and tried again."""

from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.cluster.client import Client, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.plays import a_job
from tests.cluster.standin import StandIn
from tests.cluster.test_controller_rbac import install
from tests.cluster.test_controller_runs import jobs, reaches
from tests.servers.control_plane import ControlPlane

pytestmark = pytest.mark.cluster


def skipped(port: int) -> float:
    """Return how many namespaces the operator skips, from its metrics."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("finetune_namespaces_skipped "))


def test_a_namespace_that_is_forbidden_does_not_stop_the_others(
    api: Client, control_plane: ControlPlane, standin: StandIn, namespace: str, start_operator: StartOperator,
    tmp_path: Path, free_port: int,
):  # fmt: skip
    """Its role is deleted under a running operator; a restart serves the others; the role is back, and so is its job."""
    other = f"{namespace}-b"
    control_plane.kubectl("create", "namespace", other)
    scope = (f"--set=namespaces={{{namespace},{other}}}", f"--set=metrics.port={free_port}")
    mine = install(api, control_plane, namespace, tmp_path, *scope)
    operator = start_operator(*mine.arguments, kubeconfig=mine.kubeconfig, everywhere=True)
    operator.start()
    api.create(jobs(other), a_job("before"))
    reaches(api, other, "before", "Succeeded")
    bindings = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{other}/rolebindings"
    (binding,) = api.items(bindings)

    api.delete(f"{bindings}/{binding['metadata']['name']}")
    operator.said("namespace is skipped until it can be read")
    api.create(jobs(other), a_job("waits"))
    api.create(jobs(namespace), a_job("first"))
    reaches(api, namespace, "first", "Succeeded")
    assert skipped(free_port) == 1

    assert operator.terminate() == 0
    operator.start()
    api.create(jobs(namespace), a_job("second"))
    reaches(api, namespace, "second", "Succeeded")
    assert operator.text.count("namespace is skipped until it can be read") == 2

    kept = {key: binding[key] for key in ("roleRef", "subjects")}
    kind = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding"}
    api.create(bindings, kind | kept | {"metadata": {"name": binding["metadata"]["name"]}})
    operator.said("namespace is served again")
    reaches(api, other, "waits", "Succeeded")
    assert skipped(free_port) == 0


def test_a_deleted_namespace_does_not_stop_the_others(
    api: Client, control_plane: ControlPlane, standin: StandIn, namespace: str, start_operator: StartOperator,
    tmp_path: Path, free_port: int,
):  # fmt: skip
    """It goes with its role and its running job; the operator lives, and restarts."""
    other = f"{namespace}-c"
    control_plane.kubectl("create", "namespace", other)
    scope = (f"--set=namespaces={{{namespace},{other}}}", f"--set=metrics.port={free_port}")
    mine = install(api, control_plane, namespace, tmp_path, *scope)
    operator = start_operator(*mine.arguments, kubeconfig=mine.kubeconfig, everywhere=True)
    operator.start()

    control_plane.kubectl("delete", "namespace", other, "--wait=false")
    operator.said("namespace is skipped until it can be read")
    assert operator.terminate() == 0
    operator.start()
    api.create(jobs(namespace), a_job("lives"))

    reaches(api, namespace, "lives", "Succeeded")
    eventually(lambda: skipped(free_port) == 1, "it is counted")
