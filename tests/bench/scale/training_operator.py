"""Kubeflow's training-operator as the other side of the comparison: built from its Go module, with its own manifests.

Tuned: 16 threads and 1,000 requests a second (by default it makes about three jobs a second), and without its webhook
for PyTorchJobs, which would only cost it time.
"""

import base64
import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from finetune_operator.local.binaries import KUBECTL, MODULES, TRAINING_OPERATOR
from finetune_operator.local.build import go_tool
from finetune_operator.local.ports import free_port
from finetune_operator.local.provide import provide

from tests.bench.scale.cluster import NAMESPACE, Cluster, program, quiet
from tests.bench.scale.contenders import PODS, Contender
from tests.cluster.client import Raw, eventually

SYSTEM = "kubeflow"
SECRET = f"/api/v1/namespaces/{SYSTEM}/secrets/training-operator-webhook-cert"
CERTIFICATES = Path("/tmp/k8s-webhook-server/serving-certs")  # fixed in its source: a private mount covers it
THREADS = ("--controller-threads=16", "--kube-api-qps=1000", "--kube-api-burst=2000", "--enable-scheme=pytorchjob")
WEBHOOK_PORT = free_port(set())


def a_pytorchjob(name: str) -> Raw:
    """Return a job on one GPU."""
    container = {
        "name": "pytorch",
        "image": "trainer",
        "command": ["python", "train.py"],
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
    }
    pod = {
        "nodeSelector": {"nvidia.com/gpu.present": "true"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "containers": [container],
    }
    master = {"replicas": 1, "restartPolicy": "Never", "template": {"spec": pod}}
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": {"name": name},
        "spec": {"pytorchReplicaSpecs": {"Master": master}},
    }


def has(*conditions: str) -> Any:
    """Return the test for a true condition."""

    def test(raw: Raw) -> bool:
        found = raw.get("status", {}).get("conditions") or ()
        return any(each["type"] in conditions and each["status"] == "True" for each in found)

    return test


def source() -> str:
    """Return the folder of its source, which is fetched where it is not on this machine yet."""
    command = [str(go_tool(quiet)), "mod", "download", "-json", "github.com/kubeflow/training-operator"]
    module = MODULES / TRAINING_OPERATOR.module
    return str(json.loads(subprocess.run(command, cwd=module, capture_output=True, check=True).stdout)["Dir"])


def manifests() -> list[Raw]:
    """Return what it is installed with: its webhook is reached on this machine, and it runs as a process of ours."""
    kubectl = str(provide([KUBECTL], say=quiet)["kubectl"])
    overlay = [kubectl, "kustomize", f"{source()}/manifests/overlays/standalone"]
    found = [
        each for each in yaml.safe_load_all(subprocess.run(overlay, capture_output=True, check=True).stdout) if each
    ]
    first = {"Namespace": 0, "CustomResourceDefinition": 1}
    return sorted(
        map(adapted, (each for each in found if each["kind"] != "Deployment")),
        key=lambda each: first.get(each["kind"], 2),
    )


def adapted(raw: Raw) -> Raw:
    """Return an object as it is needed here."""
    if raw["kind"] == "Service":
        raw["spec"] = {"type": "ExternalName", "externalName": "localhost", "ports": raw["spec"]["ports"]}
    if raw["kind"] == "ValidatingWebhookConfiguration":
        raw["webhooks"] = [each for each in raw["webhooks"] if "jaxjob" in each["name"]]  # it must not be empty
        raw["webhooks"][0]["clientConfig"]["service"]["port"] = WEBHOOK_PORT
    return raw


def install(cluster: Cluster) -> None:
    """Install CRDs and rights."""
    cluster.kubectl("apply", "--server-side", "-f", "-", given=yaml.safe_dump_all(manifests()))
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")


def certificate(cluster: Cluster) -> dict[str, str]:
    """Return the files of its webhook's certificate, empty until it has made them."""
    data = (cluster.client.find(SECRET) or {}).get("data") or {}
    return data if "tls.crt" in data else {}


@contextlib.contextmanager
def started(cluster: Cluster) -> Iterator[Any]:
    """Run it as an administrator. Its certificate is copied from its Secret, as a kubelet would mount it."""
    metrics, health = free_port({WEBHOOK_PORT}), free_port({WEBHOOK_PORT})
    folder, log = cluster.folder / "certificates", cluster.folder / "training-operator.log"
    folder.mkdir(exist_ok=True)
    CERTIFICATES.mkdir(parents=True, exist_ok=True)
    mounted = f'mount --bind "{folder}" "{CERTIFICATES}" && exec "$@"'
    flags = (f"--metrics-bind-address=127.0.0.1:{metrics}", f"--health-probe-bind-address=127.0.0.1:{health}", *THREADS)
    binary = str(provide([TRAINING_OPERATOR], say=print)["training-operator"])
    command = ["unshare", "--mount", "sh", "-c", mounted, "sh", binary, f"--webhook-server-port={WEBHOOK_PORT}", *flags]
    env = {**os.environ, "KUBECONFIG": str(cluster.state.kubeconfig), "MY_POD_NAMESPACE": SYSTEM}
    log.write_text("")
    with program(command, log=log, env=env) as process:
        eventually(lambda: certificate(cluster), "its certificate", 60)
        for name, value in certificate(cluster).items():
            (folder / name).write_bytes(base64.b64decode(value))
        eventually(lambda: "Starting workers" in log.read_text() or process.poll() is not None, "its workers run", 60)
        yield process


TRAINING_OPERATOR_CONTENDER = Contender(
    name="training-operator",
    client="training-operator",
    jobs=f"/apis/kubeflow.org/v1/namespaces/{NAMESPACE}/pytorchjobs",
    children=(PODS, f"/api/v1/namespaces/{NAMESPACE}/services"),
    job=a_pytorchjob,
    label="training.kubeflow.org/job-name",
    marks={"running": has("Running"), "finished": has("Succeeded", "Failed")},
    pods_per_job=1,
    install=install,
    started=started,
)
