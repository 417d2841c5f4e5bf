"""The product as a platform team installs it: images by digest, the chart, a pool."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_operator.local.binaries import HELM
from finetune_operator.local.provide import provide

from tests.cluster.client import eventually
from tests.real_node.cluster import RealCluster
from tests.real_node.images import OPERATOR, PREFLIGHT, TRAINER
from tests.real_node.network import API_ADDRESS
from tests.real_node.programs import run
from tests.servers.control_plane import ControlPlane

CHART = Path(__file__).parents[2] / "charts/finetune-operator"
SYSTEM = "finetune-system"
RELEASE = "finetune-operator"
OPERATOR_USER = f"system:serviceaccount:{SYSTEM}:{RELEASE}"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
MONITORING = {"example.com/monitoring": "true"}
"""Labels of the namespaces whose Pods may read the operator's metrics."""

POOL = {
    "gpuType": "local-cpu",
    "memoryGiB": "16",
    "gpusPerNode": 1,
    "maxNodes": 2,
    "node": {"cpus": 2, "memoryGiB": 12, "ephemeralGiB": 20},
    "nodeSelector": [{"key": "nvidia.com/gpu.product", "value": "local-cpu"}],
    "pricePerGPUHourUSD": "36.00",
}
"""Two nodes of one pretended GPU; at this price a GPU-second is a cent."""


@dataclass(frozen=True)
class Installation:
    """A release of the chart on real nodes."""

    cluster: RealCluster
    data: Path
    """Folder behind every claim: models, rows, and what the jobs publish."""
    replicas: int = 2

    def install(self) -> None:
        """Install or upgrade the release, and wait until the operator leads."""
        plane = self.cluster.plane
        plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM, "labels": RESTRICTED}})
        self.helm("upgrade", "--install", RELEASE, str(CHART), "-n", SYSTEM, "-f", str(self._values()))
        plane.kubectl("wait", "--for=condition=Established", "crd/gpupools.finetune.dev", "--timeout=30s")
        plane.kubectl("rollout", "status", f"deployment/{RELEASE}", "-n", SYSTEM, "--timeout=50s")
        plane.apply(
            {"apiVersion": "finetune.dev/v1alpha1", "kind": "GPUPool", "metadata": {"name": "real"}, "spec": POOL}
        )
        eventually(self.leader_node, "an operator leads", 30)
        eventually(self._children_may_be_made, "admission knows the new kinds", 60)

    def _children_may_be_made(self) -> bool:
        """Tell whether admission may look at the operator's owner references: it learns of new kinds every 30 s."""
        owner = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob", "name": "any", "uid": "any"}
        metadata = {"name": "child", "namespace": SYSTEM, "ownerReferences": [owner | {"blockOwnerDeletion": True}]}
        child = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 1}]}}
        create = ("create", "--dry-run=server", f"--as={OPERATOR_USER}", "-f", "-")
        return self.cluster.plane.kubectl(*create, given=child, check=False).returncode == 0

    def uninstall(self) -> None:
        """Remove the release; jobs and definitions stay."""
        self.helm("uninstall", RELEASE, "-n", SYSTEM, "--wait")

    def helm(self, *arguments: str) -> str:
        """Run helm on this cluster."""
        program = provide([HELM], say=print)["helm"]
        return run(program, f"--kubeconfig={self.cluster.plane.kubeconfig}", *arguments)

    def _values(self) -> Path:
        images = self.cluster.images
        repository, digest = images[OPERATOR].split("@")
        values = {
            "image": {"repository": repository, "digest": digest},
            "trainer": {"image": images[TRAINER], "preflightImage": images[PREFLIGHT]},
            "replicas": self.replicas,
            "ui": {"enabled": True},
            "networkPolicy": {
                "enabled": True,
                "metricsFrom": [{"namespaceSelector": {"matchLabels": MONITORING}}],
                "apiServer": {"cidrs": [f"{API_ADDRESS}/32"], "ports": [self.cluster.api_port]},
            },
        }
        path = self.cluster.plane.state.root / "values.json"
        path.write_text(json.dumps(values))
        return path

    def leader_node(self) -> str:
        """Return the node on which the leading operator runs; empty while nobody leads."""
        plane = self.cluster.plane
        (lease,) = plane.get("lease", "-n", SYSTEM)["items"] or ({"spec": {}},)
        holder = lease["spec"].get("holderIdentity") or "nobody"
        return next(
            (pod["spec"]["nodeName"] for pod in operators(plane) if holder.startswith(pod["metadata"]["name"])), ""
        )


def operators(plane: ControlPlane) -> list[dict[str, Any]]:
    """Return the operator's Pods, those of its page left out."""
    pods: list[dict[str, Any]] = plane.get("pods", "-n", SYSTEM, "-l", "app.kubernetes.io/component=operator")["items"]
    return pods


def page_address(plane: ControlPlane) -> str:
    """Return the URL of the page's Service, which a node can reach."""
    return f"http://{plane.get('service', f'{RELEASE}-ui', '-n', SYSTEM)['spec']['clusterIP']}"
