"""A KServe LLMInferenceService for a published result. Called by serving_objects.

Checked against KServe 0.17: its controller accepts `spec.model.lora` and does nothing with it, and its template for one node reads no
VLLM_ADDITIONAL_ARGS. So options are args of the container, and adapters come by our own init containers, which check their digests.
"""

import finetune_contract as contract

from finetune_operator.errors import FinetuneError
from finetune_operator.manifests import volumes
from finetune_operator.manifests.labels import Manifest
from finetune_operator.manifests.serving import MODELS, Serving, fetch, lora_options, read_only

SCHEMES = ("hf", "s3", "pvc")
"""What its controller fetches by itself."""

ADAPTERS, VOLUME = "/adapters", "finetune-models"
"""Where the server sees our volume; its own template has /models."""


def llm_inference_service(serving: Serving) -> Manifest:
    """Return the object. Raises FinetuneError for a model that KServe does not fetch."""
    whole = None if serving.adapters else serving.results[0]
    base = serving.base
    revision = f":{base.revision}" if base.location.uri.startswith("hf://") and base.revision else ""
    uri = whole.artifact.uri if whole else f"{base.location.uri}{revision}"
    limits = {serving.pool.resource_name: str(serving.gpus), "memory": f"{serving.memory_gib}Gi"}
    options = [
        "--max-model-len", str(serving.load.length), "--max-num-seqs", str(serving.load.concurrency),
        "--tensor-parallel-size", str(serving.gpus), *lora_options(serving, ADAPTERS),
    ]  # fmt: skip
    container: Manifest = {"name": "main", "args": options, "resources": {"limits": limits}}
    pod: Manifest = {"containers": [container]}
    if serving.adapters:
        places = tuple(contract.Location(uri=one.artifact.uri, secret=one.secret) for one in serving.adapters)
        needed = read_only(places)
        mounts = [one for one in volumes.mounts(needed) if one["name"] not in ("run", "workspace")]
        own = {"name": VOLUME, "mountPath": MODELS}
        container["volumeMounts"] = [{"name": VOLUME, "mountPath": ADAPTERS}]
        pod["initContainers"] = [
            fetch(serving, (one.artifact.uri, one.secret, one.name, one.artifact.digest), needed, [*mounts, own])
            for one in serving.adapters
        ]
        pod["volumes"] = [
            *(one for one in volumes.volumes(needed, workspace_gib=1) if one["name"] not in ("run", "workspace")),
            {"name": VOLUME, "emptyDir": {"sizeLimit": f"{serving.disk_gib}Gi"}},
        ]
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
            "template": pod,
        },
    }


def fetched_by_kserve(uri: str) -> str:
    """Return the URI. Raises FinetuneError where KServe does not fetch it, or would fetch something else."""
    scheme, _, rest = uri.partition("://")
    if scheme == "oci":
        raise FinetuneError(
            f"KServe takes container images at oci://, and {uri} is an artifact with one layer for each file: use --for vllm, or publish "
            "to s3:// or pvc://"
        )
    if scheme not in SCHEMES or (scheme == "hf" and rest.count("/") > 1):
        raise FinetuneError(
            f"KServe does not fetch {uri}: it takes s3://, pvc:// and whole repositories of a hub. Use --for vllm, or publish to s3:// or pvc://"
        )
    return uri
