"""What `make kind-demo` applies, judged by a real API server: volume, claim, pretended GPUs, the pool made of them."""

import json
import subprocess
import sys

import pytest

from demo.kind import GPU_LABELS, GPUS, claim
from tests.cluster.client import Client
from tests.servers.control_plane import ControlPlane

pytestmark = pytest.mark.cluster


def test_volume_and_claim_are_accepted(control_plane: ControlPlane, namespace: str):
    """They name each other, so they are bound without a provisioner."""
    control_plane.kubectl("apply", "-n", namespace, "--dry-run=server", "--validate=strict", "-f", "-", given=claim())
    volume, wanted = claim()

    assert (wanted["spec"]["volumeName"], volume["metadata"]["name"]) == ("demo", "demo")
    assert volume["spec"]["accessModes"] == wanted["spec"]["accessModes"] == ["ReadWriteMany"]


def test_the_pretended_gpus_become_a_pool(api: Client, control_plane: ControlPlane):
    """Labelled and patched as the demo does, `finetune pools discover` proposes a pool that the API server takes."""
    api.create("/api/v1/nodes", {"metadata": {"name": "kind"}})
    capacity = {"cpu": "8", "memory": "16Gi", "ephemeral-storage": "100Gi"}
    api.patch("/api/v1/nodes/kind/status", {"status": {"capacity": capacity, "allocatable": capacity}})
    control_plane.kubectl("label", "node", "kind", *GPU_LABELS)
    control_plane.kubectl("patch", "node", "kind", "--subresource=status", "--type=merge", "-p", json.dumps(GPUS))
    command = [sys.executable, "-m", "finetune_operator", "pools", "discover", "--price=local-cpu=1.00"]
    found = subprocess.run(
        [*command, f"--kubeconfig={control_plane.kubeconfig}"], capture_output=True, text=True, check=True
    )
    api.delete("/api/v1/nodes/kind")
    answer = control_plane.kubectl_text("apply", "--dry-run=server", "--validate=strict", "-f", "-", text=found.stdout)

    assert "gpuType: local-cpu\n" in found.stdout
    assert 'memoryGiB: "15.4"\n' in found.stdout
    assert answer.stdout == "gpupool.finetune.dev/local-cpu created (server dry run)\n"
