"""The real manager of Kueue as a process beside the tests' control plane, with its own manifests, webhooks and visibility API.

Its Services become external names of this machine, so that the API server dials the process; webhooks for other kinds of
jobs, and what only a Deployment needs, are left out.
"""

import base64
import json
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from finetune_operator.local import ports
from finetune_operator.local.provide import provide

from tests.cluster.client import ApiError, Client, eventually
from tests.gitops.programs import KUEUE, KUEUE_VERSION, module_folder
from tests.servers.control_plane import ControlPlane

SYSTEM = "kueue-system"
API = "/apis/kueue.x-k8s.io/v1beta2"
CERTIFICATE = f"/api/v1/namespaces/{SYSTEM}/secrets/kueue-webhook-server-cert"
SERVICES = ("kueue-webhook-service", "kueue-visibility-server", "visibility-server")
VISIBILITY = ("v1beta1.visibility.kueue.x-k8s.io", "v1beta2.visibility.kueue.x-k8s.io")

Raw = dict[str, Any]


def local(manifest: Raw, port: int, visibility: int) -> Raw | None:
    """Return an object of Kueue's manifests for a manager outside the cluster; None for what is not needed."""
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    if kind == "Deployment" or (kind == "Service" and name not in SERVICES):
        return None
    if kind == "APIService":
        manifest["spec"]["service"]["port"] = visibility
    if kind == "Service":
        return {**manifest, "spec": {"type": "ExternalName", "externalName": "localhost"}}
    if kind == "CustomResourceDefinition":
        conversion = manifest["spec"].get("conversion") or {}
        if conversion.get("strategy") == "Webhook":
            conversion["webhook"]["clientConfig"]["service"]["port"] = port
    if kind.endswith("WebhookConfiguration"):
        ours = [
            each
            for each in manifest["webhooks"]
            if all("kueue.x-k8s.io" in rule["apiGroups"] for rule in each["rules"])
        ]
        for each in ours:
            each["clientConfig"]["service"]["port"] = port
        manifest["webhooks"] = ours
    return manifest


def configuration(folder: Path, health: int, webhook: int, metrics: int, visibility: int) -> Raw:
    """Return the manager's configuration."""
    return {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "namespace": SYSTEM,
        "health": {"healthProbeBindAddress": f"127.0.0.1:{health}"},
        "metrics": {"bindAddress": f"127.0.0.1:{metrics}"},
        "webhook": {"host": "127.0.0.1", "port": webhook, "certDir": str(folder / "certs")},
        "leaderElection": {"leaderElect": False},
        "manageJobsWithoutQueueName": False,
        "internalCertManagement": {
            "enable": True, "webhookServiceName": "kueue-webhook-service", "webhookSecretName": "kueue-webhook-server-cert",
        },
        "integrations": {"frameworks": ["batch/job"]},
        "visibilityServer": {"bindAddress": "127.0.0.1", "bindPort": visibility},
    }  # fmt: skip


def certificates(api: Client, folder: Path) -> bool:
    """Write the manager's certificate from its Secret, as a kubelet's mount would; tell whether there is one."""
    found = (api.find(CERTIFICATE) or {}).get("data") or {}
    if "tls.crt" not in found:
        return False
    for name in ("tls.crt", "tls.key", "ca.crt"):
        (folder / name).write_bytes(base64.b64decode(found[name]))
    return True


def ready(port: int) -> bool:
    """Tell whether the manager says that it is ready."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def serves_positions(api: Client) -> bool:
    """Tell whether the visibility API answers through the API server."""
    try:
        return bool(api.get("/apis/visibility.kueue.x-k8s.io/v1beta2")["resources"])
    except ApiError:
        return False


@contextmanager
def kueue(api: Client, control_plane: ControlPlane, folder: Path) -> Iterator[None]:
    """Install Kueue and run its manager."""
    program = provide([KUEUE], say=print)["kueue"]
    health, webhook, metrics, visibility = (ports.free_port(set()) for _ in range(4))
    rendered = yaml.safe_load_all(
        control_plane.kubectl(
            "kustomize", str(module_folder(f"sigs.k8s.io/kueue@{KUEUE_VERSION}") / "config/default")
        ).stdout
    )
    manifests = [found for each in rendered if each and (found := local(each, webhook, visibility)) is not None]
    control_plane.kubectl("apply", "--server-side", "-f", "-", given=manifests)
    (folder / "certs").mkdir()
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(configuration(folder, health, webhook, metrics, visibility)))
    with (folder / "kueue.log").open("w") as log:
        process = subprocess.Popen(
            [str(program), f"--config={config}", f"--kubeconfig={control_plane.kubeconfig}", "--zap-log-level=2"],
            cwd=folder, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            eventually(lambda: certificates(api, folder / "certs"), "the manager has a certificate", 60)
            eventually(lambda: ready(health), "the manager is ready", 60)
            eventually(lambda: serves_positions(api), "the API server passes on what is asked about queues", 60)
            yield
        finally:
            # an API that nobody serves any more would hold up the deletion of every namespace
            control_plane.kubectl("delete", "apiservice", "--ignore-not-found", *VISIBILITY)
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            print((folder / "kueue.log").read_text()[-4000:])


def queues(gpus: int, namespace: str, node_labels: Raw, resources: tuple[str, ...]) -> list[Raw]:
    """Return a flavor, a ClusterQueue with so many GPUs and enough of everything else, and the LocalQueue `train`."""
    name = f"queue-{namespace}"
    quotas = [{"name": each, "nominalQuota": gpus if each.endswith("/gpu") else "100000Gi"} for each in resources]
    version = {"apiVersion": "kueue.x-k8s.io/v1beta2"}
    return json.loads(json.dumps([
        {**version, "kind": "ResourceFlavor", "metadata": {"name": name}, "spec": {"nodeLabels": node_labels}},
        {
            **version, "kind": "ClusterQueue", "metadata": {"name": name},
            "spec": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "preemption": {"withinClusterQueue": "LowerPriority"},
                "resourceGroups": [
                    {"coveredResources": list(resources), "flavors": [{"name": name, "resources": quotas}]},
                ],
            },
        },
        {
            **version, "kind": "LocalQueue", "metadata": {"name": "train", "namespace": namespace},
            "spec": {"clusterQueue": name},
        },
    ]))  # fmt: skip
