"""A KServe LLMInferenceService for a published result. Part of contract.

Checked against KServe 0.17: its controller accepts `spec.model.lora` and does nothing with it, and its template for one node reads no
VLLM_ADDITIONAL_ARGS. So options are args of the container, and adapters come by our own init containers, which check their digests.
"""

from finetune_contract.pods import Manifest, claims_of, secrets_of, storage_volumes
from finetune_contract.served import NotServable
from finetune_contract.serving.server import MODELS, Serving, fetch, fetched_of, lora_options

SCHEMES = ("hf", "s3", "pvc")
"""What its controller fetches by itself."""

ADAPTERS, VOLUME = "/adapters", "finetune-models"
"""Where the server sees our volume; its own template has /models."""


def llm_inference_service(serving: Serving) -> Manifest:
    """Return the object. Raises NotServable for a model that KServe does not fetch."""
    whole = None if serving.adapters else serving.results[0]
    base = serving.base
    revision = f":{base.revision}" if base.location.uri.startswith("hf://") and base.revision else ""
    uri = whole.artifact.uri if whole else f"{base.location.uri}{revision}"
    options = [
        "--max-model-len", str(serving.load.length), "--max-num-seqs", str(serving.load.concurrency),
        "--tensor-parallel-size", str(serving.gpus), *lora_options(serving, ADAPTERS),
    ]  # fmt: skip
    return {
        "apiVersion": "serving.kserve.io/v1alpha2",
        "kind": "LLMInferenceService",
        "metadata": {
            "name": serving.name,
            "namespace": serving.namespace,
            "annotations": {f"finetune.dev/digest-{one.name}": one.artifact.digest for one in serving.results},
        },
        "spec": {
            "replicas": 1,
            "model": {"uri": fetched_by_kserve(uri), "name": whole.name if whole else "base"},
            "parallelism": {"tensor": serving.gpus},
            "template": pod(serving, {"name": "main", "args": options, "resources": {"limits": serving.limits}}),
        },
    }


def pod(serving: Serving, container: Manifest) -> Manifest:
    """Return the Pod: the server, and what brings its adapters."""
    if not serving.adapters:
        return {"containers": [container]}
    places = tuple(one.location for one in serving.adapters)
    models = {"name": VOLUME, "mountPath": MODELS}
    return {
        "containers": [container | {"volumeMounts": [{"name": VOLUME, "mountPath": ADAPTERS}]}],
        "initContainers": [fetch(serving.facts.image, fetched_of(one), places, models) for one in serving.adapters],
        "volumes": [
            *storage_volumes(claims_of(places), secrets_of(places)),
            {"name": VOLUME, "emptyDir": {"sizeLimit": f"{serving.disk_gib}Gi"}},
        ],
    }


def fetched_by_kserve(uri: str) -> str:
    """Return the URI. Raises NotServable where KServe does not fetch it, or would fetch something else."""
    scheme, _, rest = uri.partition("://")
    if scheme == "oci":
        raise NotServable(
            f"KServe takes container images at oci://, and {uri} is an artifact with one layer for each file: use --for vllm, or publish "
            "to s3:// or pvc://"
        )
    if scheme not in SCHEMES or (scheme == "hf" and rest.count("/") > 1):
        raise NotServable(
            f"KServe does not fetch {uri}: it takes s3://, pvc:// and whole repositories of a hub. Use --for vllm, or publish to s3:// or pvc://"
        )
    return uri
