"""The preflight Pod: no GPU, no torch, small. It examines model, data and output before a GPU is asked for."""

from finetune_contract import wire

from finetune_operator.api.status import FineTuneJob
from finetune_operator.manifests import names, volumes
from finetune_operator.manifests.labels import Manifest, metadata
from finetune_operator.manifests.nodes import PREFERRED, SILENT_NODE, away_from
from finetune_operator.manifests.run_config import preflight_config
from finetune_operator.manifests.security import container_security, isolated

DEADLINE_SECONDS = 3600
"""Tokenising stops and samples long before; what takes an hour hangs."""

WORKSPACE_GIB = 20
"""Tokenizer, config and a sample of the data; the weights are not fetched."""

REQUESTS = {"cpu": "500m", "memory": "1Gi", "ephemeral-storage": "1Gi"}
LIMITS = {"memory": "8Gi", "ephemeral-storage": f"{WORKSPACE_GIB}Gi"}
"""Memory grows with the rows that are read; 8 GiB hold what it reads at once."""

GRACE_SECONDS = 10
GPU_NODE_LABEL = "nvidia.com/gpu.present"


def preflight_pod(job: FineTuneJob, generation: int, *, image: str, avoided: tuple[str, ...] = ()) -> Manifest:
    """Return the Pod that examines one generation of the spec, rather not on nodes that refused it."""
    config = preflight_config(job, generation)
    name = names.preflight_pod_name(job.metadata.name, generation)
    labels = {names.ROLE_LABEL: "preflight", names.GENERATION_LABEL: str(generation)}
    needed = volumes.storage(config)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(job, name, labels) | {"annotations": {names.RUN_ANNOTATION: wire.dumps(config)}},
        "spec": isolated(job.spec.service_account_name)
        | {
            "activeDeadlineSeconds": DEADLINE_SECONDS,
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "affinity": {"nodeAffinity": {PREFERRED: preferences(avoided)}},
            "tolerations": list(SILENT_NODE),
            "containers": [
                {
                    "name": names.PREFLIGHT_CONTAINER,
                    "image": image,
                    "command": ["python"],
                    "args": ["-m", "finetune_trainer", "preflight"],
                    "env": volumes.environment(needed),
                    "resources": {"requests": dict(REQUESTS), "limits": dict(LIMITS)},
                    "volumeMounts": volumes.mounts(needed),
                    "terminationMessagePath": volumes.TERMINATION_LOG,
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                    "securityContext": container_security(),
                }
            ],
            "volumes": volumes.volumes(needed, workspace_gib=WORKSPACE_GIB),
        },
    }


def preferences(avoided: tuple[str, ...]) -> list[Manifest]:
    """Return what spares nodes that are paid for their GPUs, and those that refused the Pod. Some clusters have no other.

    A taint keeps the Pod off for good, as it tolerates none.
    """
    term = {"matchExpressions": [{"key": GPU_NODE_LABEL, "operator": "DoesNotExist"}]}
    spared = {"weight": 100, "preference": term}
    return [spared, away_from(avoided)] if avoided else [spared]


def needs() -> str:
    """Say which node would take the Pod."""
    return f"{REQUESTS['cpu']} CPU and {REQUESTS['memory']} of memory on a node without taints; no GPU"
