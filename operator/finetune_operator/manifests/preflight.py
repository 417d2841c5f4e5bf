"""The preflight Pod: no GPU, no torch, small. It examines model, data and output before a GPU is asked for."""

from finetune_contract import run_file
from finetune_contract.pods import container_security

from finetune_operator.api.pod_settings import WORKSPACE_GIB, PodSettings
from finetune_operator.api.status import FineTuneJob
from finetune_operator.manifests import names, pool_pod, volumes
from finetune_operator.manifests.labels import Manifest, metadata
from finetune_operator.manifests.nodes import SILENT_NODE, away_from, node_affinity, toleration
from finetune_operator.manifests.run_config import preflight_config
from finetune_operator.manifests.security import isolated

DEADLINE_SECONDS = 3600
"""Tokenising stops and samples long before; what takes an hour hangs."""

GRACE_SECONDS = 10
DEFAULTS = PodSettings()
GPU_NODE_LABEL = "nvidia.com/gpu.present"


def preflight_pod(
    job: FineTuneJob, generation: int, *, image: str, avoided: tuple[str, ...] = (), settings: PodSettings = DEFAULTS
) -> Manifest:
    """Return the Pod that examines one generation of the spec, rather not on nodes that refused it."""
    config, own = preflight_config(job, generation), settings.preflight
    name = names.preflight_pod_name(job.metadata.name, generation)
    labels = pool_pod.labels(job.spec.pod_metadata) | {
        names.ROLE_LABEL: "preflight",
        names.COMPONENT_LABEL: "preflight",
        names.GENERATION_LABEL: str(generation),
    }
    annotations = settings.annotations | pool_pod.annotations(job.spec.pod_metadata)
    needed, everywhere = volumes.storage(config), settings.elsewhere
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(job, name, settings.labels | labels)
        | {"annotations": annotations | {names.RUN_ANNOTATION: run_file.write(config)}},
        "spec": isolated(job.spec.service_account_name)
        | pool_pod.pod_fields(everywhere)
        | {
            "activeDeadlineSeconds": DEADLINE_SECONDS,
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "affinity": node_affinity(settings.architectures, *preferences(avoided)),
            "tolerations": [*map(toleration, own.tolerations), *SILENT_NODE],
            **({"nodeSelector": dict(own.node_selector)} if own.node_selector else {}),
            "containers": [
                {
                    "name": names.PREFLIGHT_CONTAINER,
                    "image": image,
                    "command": ["python"],
                    "args": ["-m", "finetune_trainer", "preflight"],
                    "env": [*pool_pod.environment(everywhere), *volumes.environment(needed)],
                    "resources": {"requests": dict(own.resources.requests), "limits": dict(own.resources.limits)},
                    "volumeMounts": [*volumes.mounts(needed), *pool_pod.mounts(everywhere)],
                    "terminationMessagePath": volumes.TERMINATION_LOG,
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                    "securityContext": container_security(),
                }
            ],
            "volumes": [
                *volumes.volumes(needed, workspace_gib=WORKSPACE_GIB),
                *pool_pod.volumes(everywhere),
            ],
        },
    }


def preferences(avoided: tuple[str, ...]) -> list[Manifest]:
    """Return what spares nodes that are paid for their GPUs, and those that refused the Pod. Some clusters have no other.

    A taint keeps the Pod off for good, as it tolerates none.
    """
    term = {"matchExpressions": [{"key": GPU_NODE_LABEL, "operator": "DoesNotExist"}]}
    spared = {"weight": 100, "preference": term}
    return [spared, away_from(avoided)] if avoided else [spared]


def needs(settings: PodSettings) -> str:
    """Say which node would take the Pod."""
    own, requests = settings.preflight, settings.preflight.resources.requests
    amounts = f"{requests.get('cpu', '0')} CPU and {requests.get('memory', '0')} of memory"
    labels = ", ".join(f"{key}={value}" for key, value in own.node_selector.items())
    kind = f"a node labelled {labels}" if labels else "a node"
    taints = " or only taints that the operator's settings tolerate" if own.tolerations else ""
    return f"{amounts} on {kind} without taints{taints}; no GPU"
