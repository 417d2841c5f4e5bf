"""Every kind of child, admitted by a real API server in a namespace that enforces restricted Pod security."""

from typing import Any

import pytest

from tests.golden.manifests import rendered
from tests.servers.control_plane import ControlPlane

pytestmark = pytest.mark.cluster

RESTRICTED = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/enforce-version": "latest",
}
RENDERED = rendered()


@pytest.fixture
def restricted(control_plane: ControlPlane, namespace: str) -> str:
    """A namespace with restricted Pod security, and what the Pods refer to."""
    meta = {"name": "research"}
    control_plane.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": RESTRICTED}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "trainer", "namespace": namespace}},
        {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": meta, "value": 10},
    )
    return namespace


@pytest.mark.parametrize("name", sorted(RENDERED))
def test_the_api_server_admits_what_we_create(control_plane: ControlPlane, restricted: str, name: str):
    """Strict field validation, admission and Pod security, without anything being stored.

    tests/gitops has the definitions of PodGroups, and holds ours to them.
    """
    made = [in_namespace(manifest, restricted) for manifest in RENDERED[name] if manifest["kind"] != "PodGroup"]

    answer = control_plane.kubectl(
        "create", "--dry-run=server", "--validate=strict", "-f", "-", given=made, check=False
    )

    said = [f"{item['kind'].lower()}/{item['metadata']['name']} created (server dry run)" for item in made]
    assert (answer.stdout.splitlines(), answer.stderr) == (said, "")


def in_namespace(manifest: dict[str, Any], namespace: str) -> dict[str, Any]:
    return manifest | {"metadata": manifest["metadata"] | {"namespace": namespace}}
