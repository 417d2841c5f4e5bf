"""A published result as objects that serve it: a vLLM or llama.cpp Deployment with its Service, or KServe's (kserve).

Printed by `finetune manifests`; the operator creates none of them. What is served is fetched by an init container, which refuses
files of another digest.
"""

from dataclasses import dataclass

import finetune_contract as contract
from finetune_contract.engines import VLLM_OWN_STOPS, max_lora_rank

from finetune_operator.api.plan import PoolSnapshot
from finetune_operator.api.published import ArtifactStatus
from finetune_operator.manifests import volumes
from finetune_operator.manifests.engine import IMAGES
from finetune_operator.manifests.labels import Manifest
from finetune_operator.manifests.nodes import toleration
from finetune_operator.manifests.security import container_security, pod_security
from finetune_operator.manifests.volumes import variable
from finetune_operator.planning.serving import Load

MODELS = "/models"
PORT = 8000
LLAMA_CPP_GIB = 1.0
"""Beside model and KV cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One result, and what opens its place."""

    name: str
    """Under which clients ask for it."""
    artifact: ArtifactStatus
    job: str
    """The name of the job is in those of its files."""
    secret: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Everything that the objects are made of."""

    namespace: str
    results: tuple[Served, ...]
    """One whole model, or adapters of one base."""
    base: contract.Model
    load: Load
    gpus: int
    memory_gib: int
    disk_gib: int
    pool: PoolSnapshot
    trainer_image: str
    """It fetches."""
    image: str = ""
    called: str = ""
    """Name of the objects; empty: after the first result."""

    @property
    def name(self) -> str:
        """What everything is called."""
        return self.called or f"{self.results[0].name}-server"

    @property
    def adapters(self) -> tuple[Served, ...]:
        """Those of the results that need the base model beside them."""
        return tuple(result for result in self.results if result.artifact.kind == "adapter")


def vllm_container(serving: Serving) -> Manifest:
    """Return vLLM with its adapters, or with a whole model."""
    load, base = serving.load, serving.base
    hub = base.location.uri.startswith("hf://")
    model = base.location.uri.removeprefix("hf://") if hub else f"{MODELS}/base"
    if not serving.adapters:
        model, hub = f"{MODELS}/{serving.results[0].name}", False
    args = [
        model, "--served-model-name", "base" if serving.adapters else serving.results[0].name,
        *(["--revision", base.revision] if hub and base.revision else []),
        "--max-model-len", str(load.length), "--max-num-seqs", str(load.concurrency),
        "--tensor-parallel-size", str(serving.gpus), "--port", str(PORT),
    ]  # fmt: skip
    args += lora_options(serving, MODELS)
    return {
        "name": "vllm",
        "image": serving.image or IMAGES["vllm"],
        "command": ["vllm", "serve"],
        "args": args,
        "env": [*token(base.location.secret, needed=hub), variable("HF_HOME", f"{MODELS}/.cache")],
        "resources": {"limits": {serving.pool.resource_name: str(serving.gpus), "memory": f"{serving.memory_gib}Gi"}},
    }


def lora_options(serving: Serving, folder: str) -> list[str]:
    """Return vLLM's options for adapters in a folder."""
    if not serving.adapters:
        return []
    rank = max_lora_rank(serving.load.lora_rank)
    options = [
        "--enable-lora",
        "--max-lora-rank",
        str(rank),
        "--max-loras",
        str(serving.load.adapters),
        "--lora-modules",
    ]
    modules = [f"{one.name}={folder}/{one.name}" for one in serving.adapters]
    stops = next((one.name for one in serving.adapters if VLLM_OWN_STOPS in one.artifact.servable), "")
    return [*options, *modules, *([VLLM_OWN_STOPS, f"{folder}/{stops}"] if stops else [])]


def llama_cpp_container(serving: Serving) -> Manifest:
    """Return llama.cpp's server with a GGUF."""
    (result,), load = serving.results, serving.load
    file = f"{result.job}-{result.artifact.kind.removeprefix('gguf-')}.gguf"
    return {
        "name": "llama-cpp",
        "image": serving.image or IMAGES["llama-cpp"],
        "args": [
            "--model", f"{MODELS}/{result.name}/{file}", "--alias", result.name, "--ctx-size", str(load.length * load.concurrency),
            "--parallel", str(load.concurrency), "--host", "0.0.0.0", "--port", str(PORT),  # noqa: S104 - in a Pod of its own
        ],
        "resources": {"requests": {"cpu": "4"}, "limits": {"memory": f"{serving.memory_gib}Gi"}},
    }  # fmt: skip


def token(secret: str, *, needed: bool) -> list[Manifest]:
    """Return the hub's token of a Secret."""
    if not secret or not needed:
        return []
    return [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": secret, "key": "HF_TOKEN"}}}]


def deployment(serving: Serving, container: Manifest) -> Manifest:
    """Return one server with what it serves, fetched before it starts."""
    fetched = [(one.artifact.uri, one.secret, one.name, one.artifact.digest) for one in serving.results]
    base = serving.base.location
    if serving.adapters and not base.uri.startswith("hf://"):
        fetched.append((base.uri, base.secret, "base", ""))
    places = tuple(contract.Location(uri=uri, secret=secret) for uri, secret, _, _ in fetched)
    needed = read_only(places)
    labels = {"app.kubernetes.io/name": serving.name, "app.kubernetes.io/managed-by": "finetune-manifests"}
    gpu = serving.gpus > 0
    placed: Manifest = {}
    if gpu and serving.pool.tolerations:
        placed["tolerations"] = [toleration(one) for one in serving.pool.tolerations]
    if gpu and serving.pool.node_selector:
        placed["nodeSelector"] = {term.key: term.value for term in serving.pool.node_selector}
    mounts = [one for one in volumes.mounts(needed) if one["name"] not in ("run", "workspace")]
    models = {"name": "models", "mountPath": MODELS}
    ready = {"httpGet": {"path": "/health", "port": PORT}, "periodSeconds": 5, "failureThreshold": 360}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": serving.name, "namespace": serving.namespace, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": placed
                | {
                    "automountServiceAccountToken": False,
                    "initContainers": [fetch(serving, one, needed, [*mounts, models]) for one in fetched],
                    "containers": [
                        container
                        | {
                            "ports": [{"containerPort": PORT}],
                            "startupProbe": ready,
                            "readinessProbe": ready | {"failureThreshold": 3},
                            "volumeMounts": [models, {"name": "shm", "mountPath": "/dev/shm"}],  # noqa: S108
                        }
                    ],
                    "volumes": [
                        *(
                            one
                            for one in volumes.volumes(needed, workspace_gib=1)
                            if one["name"] not in ("run", "workspace")
                        ),
                        {"name": "models", "emptyDir": {"sizeLimit": f"{serving.disk_gib}Gi"}},
                        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}},
                    ],
                    "securityContext": {
                        "fsGroup": pod_security()["fsGroup"],
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                },
            },
        },
    }


def read_only(places: tuple[contract.Location, ...]) -> volumes.Storage:
    """Return the claims and Secrets that the places need."""
    claims = sorted({volumes.claim_of(place.uri) for place in places} - {""})
    return volumes.Storage(
        claims=tuple((claim, True) for claim in claims),
        secrets=tuple(sorted({place.secret for place in places} - {""})),
    )


def fetch(
    serving: Serving, what: tuple[str, str, str, str], needed: volumes.Storage, mounts: list[Manifest]
) -> Manifest:
    """Return the init container that brings one folder, and refuses files of another digest."""
    uri, secret, name, digest = what
    environment = [one for one in volumes.environment(needed) if one["name"] not in volumes.CACHE_FOLDERS]
    return {
        "name": f"fetch-{name}",
        "image": serving.trainer_image,
        "command": ["python"],
        "args": ["-m", "finetune_trainer", "fetch", uri, f"{MODELS}/{name}", digest, secret],
        "env": [*environment, variable("HOME", MODELS), variable("HF_HOME", f"{MODELS}/.cache")],
        "volumeMounts": mounts,
        "securityContext": container_security(),
    }


def service(serving: Serving) -> Manifest:
    """Return the Service of the server."""
    labels = {"app.kubernetes.io/name": serving.name, "app.kubernetes.io/managed-by": "finetune-manifests"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": serving.name, "namespace": serving.namespace, "labels": labels},
        "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": PORT}]},
    }
