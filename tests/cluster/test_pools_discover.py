"""`finetune pools discover` against the real API server: it reads Nodes, and what it proposes is accepted."""

import subprocess
import sys

import pytest

from tests.cluster.client import Client
from tests.golden.pools import CLUSTERS, proposed
from tests.servers.control_plane import ControlPlane
from tests.unit.cli.test_pools import PRICED

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_complete_proposals_are_accepted(api: Client, control_plane: ControlPlane, cluster: str):
    """The schema and its rules, fields validated strictly."""
    text = proposed(cluster, *(f"--price={price}" for price in PRICED))
    answer = control_plane.kubectl_text("apply", "--dry-run=server", "--validate=strict", "-f", "-", text=text)

    assert answer.returncode == 0, answer.stderr
    assert len(answer.stdout.splitlines()) == text.count("kind: GPUPool")


def test_a_proposal_without_a_price_is_refused(api: Client, control_plane: ControlPlane):
    """What has to be filled in cannot be overlooked."""
    answer = control_plane.kubectl_text("apply", "--dry-run=server", "-f", "-", text=proposed("eks"))

    assert answer.returncode == 1
    for name in ("a100-sxm4-40gb", "l40s-spot"):
        assert f'GPUPool.finetune.dev "{name}" is invalid: [spec.pricePerGPUHourUSD: Required value' in answer.stderr


def test_nodes_are_read_from_the_cluster(api: Client, control_plane: ControlPlane):
    """By the kubeconfig, as other commands do."""
    labels = {"nvidia.com/gpu.product": "NVIDIA-B200", "discover": "test"}
    capacity = {"nvidia.com/gpu": "8", "cpu": "200", "memory": "1Ti", "ephemeral-storage": "4Ti"}
    api.create("/api/v1/nodes", {"metadata": {"name": "b200-0", "labels": labels}})
    api.patch("/api/v1/nodes/b200-0/status", {"status": {"capacity": capacity, "allocatable": capacity}})
    command = [
        sys.executable,
        "-m",
        "finetune_operator",
        "pools",
        "discover",
        f"--kubeconfig={control_plane.kubeconfig}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    api.delete("/api/v1/nodes/b200-0")

    assert "metadata: {name: b200}\n" in done.stdout
    assert "  node: {cpus: 200, memoryGiB: 1024, ephemeralGiB: 4096}\n" in done.stdout
