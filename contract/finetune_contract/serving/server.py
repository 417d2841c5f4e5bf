"""A published result as objects that serve it: a vLLM or llama.cpp Deployment with its Service. Part of contract.

What is served is fetched by an init container with the trainer's image, which refuses files of another digest.
"""

from dataclasses import dataclass

from finetune_contract.data import Location
from finetune_contract.engines import VLLM_OWN_STOPS, max_lora_rank
from finetune_contract.pods import (
    USER,
    Manifest,
    claims_of,
    container_security,
    secrets_of,
    storage_environment,
    storage_mounts,
    storage_volumes,
    variable,
)
from finetune_contract.report import Artifact
from finetune_contract.run import Model
from finetune_contract.served import IMAGES, Load, ServingFacts

MODELS = "/models"
PORT = 8000


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One result, and what opens its place."""

    name: str
    """Under which clients ask for it."""
    artifact: Artifact
    job: str
    """The name of the job is in those of its files."""
    secret: str = ""

    @property
    def location(self) -> Location:
        """Where it lies."""
        return Location(uri=self.artifact.uri, secret=self.secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A folder that is brought before the server starts."""

    place: Location
    name: str
    digest: str
    """Empty: not known, and not checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Everything that the objects are made of."""

    namespace: str
    results: tuple[Served, ...]
    """One whole model, or adapters of one base."""
    base: Model
    load: Load
    facts: ServingFacts
    gpus: int
    memory_gib: int
    disk_gib: int
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

    @property
    def limits(self) -> Manifest:
        """GPUs and host memory."""
        gpus = {self.facts.resource_name: str(self.gpus)} if self.gpus else {}
        return {**gpus, "memory": f"{self.memory_gib}Gi"}


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
        "resources": {"limits": serving.limits},
    }


def lora_options(serving: Serving, folder: str) -> list[str]:
    """Return vLLM's options for adapters in a folder."""
    if not serving.adapters:
        return []
    rank, load = max_lora_rank(serving.load.lora_rank), serving.load
    options = ["--enable-lora", "--max-lora-rank", str(rank), "--max-loras", str(load.adapters), "--lora-modules"]
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
        "resources": {"requests": {"cpu": "4"}, "limits": serving.limits},
    }  # fmt: skip


def token(secret: str, *, needed: bool) -> list[Manifest]:
    """Return the hub's token of a Secret."""
    if not secret or not needed:
        return []
    return [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": secret, "key": "HF_TOKEN"}}}]


def deployment(serving: Serving, container: Manifest) -> Manifest:
    """Return one server with what it serves, fetched before it starts."""
    base = serving.base.location
    beside = serving.adapters and not base.uri.startswith("hf://")
    fetched = (*map(fetched_of, serving.results), *([Fetched(place=base, name="base", digest="")] if beside else ()))
    places = tuple(one.place for one in fetched)
    labels = {"app.kubernetes.io/name": serving.name, "app.kubernetes.io/managed-by": "finetune-manifests"}
    models = {"name": "models", "mountPath": MODELS}
    ready = {"httpGet": {"path": "/health", "port": PORT}, "periodSeconds": 5, "failureThreshold": 360}
    server = container | {
        "ports": [{"containerPort": PORT}],
        "startupProbe": ready,
        "readinessProbe": ready | {"failureThreshold": 3},
        "volumeMounts": [models, {"name": "shm", "mountPath": "/dev/shm"}],  # noqa: S108
    }
    pod = placed(serving) | {
        "automountServiceAccountToken": False,
        "initContainers": [fetch(serving.facts.image, one, places, models) for one in fetched],
        "containers": [server],
        "volumes": [
            *storage_volumes(claims_of(places), secrets_of(places)),
            {"name": "models", "emptyDir": {"sizeLimit": f"{serving.disk_gib}Gi"}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}},
        ],
        "securityContext": {"fsGroup": USER, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": serving.name, "namespace": serving.namespace, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": dict(labels)},
            "template": {"metadata": {"labels": dict(labels)}, "spec": pod},
        },
    }


def placed(serving: Serving) -> Manifest:
    """Return what brings a server with GPUs onto nodes of the job's pool."""
    facts = serving.facts
    fields: Manifest = {}
    if serving.gpus and facts.tolerations:
        fields["tolerations"] = [dict(one) for one in facts.tolerations]
    if serving.gpus and facts.node_selector:
        fields["nodeSelector"] = dict(facts.node_selector)
    return fields


def fetched_of(result: Served) -> Fetched:
    """Return what an init container is told about a result."""
    return Fetched(place=result.location, name=result.name, digest=result.artifact.digest)


def fetch(image: str, what: Fetched, places: tuple[Location, ...], models: Manifest) -> Manifest:
    """Return the init container that brings one folder, and refuses files of another digest. `models`: the mount that it fills."""
    claims, secrets = claims_of(places), secrets_of(places)
    return {
        "name": f"fetch-{what.name}",
        "image": image,
        "command": ["python"],
        "args": [
            "-m", "finetune_trainer", "fetch", what.place.uri, f"{MODELS}/{what.name}", what.digest, what.place.secret,
        ],
        "env": [
            *storage_environment(claims, secrets),
            variable("TMPDIR", MODELS),
            variable("HOME", MODELS),
            variable("HF_HOME", f"{MODELS}/.cache"),
        ],
        "volumeMounts": [*storage_mounts([(claim, True) for claim in claims], secrets), models],
        "securityContext": container_security(),
    }  # fmt: skip


def service(serving: Serving) -> Manifest:
    """Return the Service of the server."""
    labels = {"app.kubernetes.io/name": serving.name, "app.kubernetes.io/managed-by": "finetune-manifests"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": serving.name, "namespace": serving.namespace, "labels": labels},
        "spec": {"selector": dict(labels), "ports": [{"name": "http", "port": 80, "targetPort": PORT}]},
    }
