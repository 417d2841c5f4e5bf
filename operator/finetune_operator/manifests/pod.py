"""One trainer Pod: one replica, one node, torchrun inside. Built from pinned values only. Called by children."""

from collections.abc import Sequence

from finetune_contract import RunConfig, run_file
from finetune_contract.pods import container_security, variable

from finetune_operator.api.plan import Plan
from finetune_operator.api.pod_settings import PodSettings
from finetune_operator.api.pool_pod import PoolPodSettings
from finetune_operator.api.status import FineTuneJob, FineTuneJobStatus
from finetune_operator.manifests import names, pool_pod, volumes
from finetune_operator.manifests.labels import Manifest, attempt_labels, metadata
from finetune_operator.manifests.nodes import SILENT_NODE, away_from, node_affinity, toleration
from finetune_operator.manifests.pinned import pinned
from finetune_operator.manifests.pod_groups import member
from finetune_operator.manifests.rendezvous import rendezvous
from finetune_operator.manifests.security import isolated

LONGEST_LABEL = 63
"""Characters of a label's value; the name of a pool may have more."""

FAILURES_BEFORE_AVOIDED = 2
"""One failure of a node is chance, two look like a broken one."""

DO_NOT_MOVE = {
    "karpenter.sh/do-not-disrupt": "true",
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
}
"""Autoscalers consolidate nodes by moving Pods; moving a trainer throws away the steps since its checkpoint."""

LIBRARIES = {
    "PYTORCH_ALLOC_CONF": "expandable_segments:True,pinned_max_round_threshold_mb:64",
    "HF_XET_HIGH_PERFORMANCE": "1",
}
"""Switches of libraries that are read before Python runs. Segments that grow leave no gaps where lengths change. Pinned host memory is
rounded up to a power of two otherwise, which nearly doubles a large buffer; and the hub's client loads with all cores. What a pool sets
takes their place: most vGPUs have no segments that grow."""


def trainer_pod(
    job: FineTuneJob, status: FineTuneJobStatus, config: RunConfig, replica: int, settings: PodSettings
) -> Manifest:
    """Return one replica of an attempt. All of them are told the same."""
    found = pinned(status)
    plan, resolved = found.plan, found.resolved
    attempt = config.attempt
    needed = volumes.storage(config)
    name = names.trainer_pod_name(job.metadata.name, attempt, replica)
    pool = settings.on(plan.pool.pod)
    ours = attempt_labels(job, attempt) | {
        names.REPLICA_LABEL: str(replica),
        names.COMPONENT_LABEL: "trainer",
        **({names.POOL_LABEL: plan.pool.name} if len(plan.pool.name) <= LONGEST_LABEL else {}),
    }
    group_labels, group_annotations = member(job.metadata.name, attempt, pool.pod_group, plan.replicas)
    labels = settings.labels | pool_pod.labels(pool) | pool_pod.labels(resolved.pod_metadata) | group_labels | ours
    wanted = settings.annotations | pool_pod.annotations(pool) | pool_pod.annotations(resolved.pod_metadata)
    annotations = DO_NOT_MOVE | wanted | group_annotations | {names.RUN_ANNOTATION: run_file.write(config)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(job, name, labels) | {"annotations": annotations},
        "spec": isolated(resolved.service_account_name)
        | placement(plan, avoided_nodes(status, before=attempt), settings.architectures)
        | gang(job, plan, attempt, name)
        | pool_pod.pod_fields(pool)
        | ({"priorityClassName": resolved.priority_class_name} if resolved.priority_class_name else {})
        | {
            "terminationGracePeriodSeconds": plan.checkpoint.grace_seconds,
            "containers": [container(job, plan, attempt, replica, needed, pool)],
            "volumes": [
                *volumes.volumes(needed, workspace_gib=plan.host.ephemeral_gib),
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{plan.host.shm_gib}Gi"}},
                *pool_pod.volumes(pool),
            ],
        },
    }


def container(  # what all replicas share, and which of them this is
    job: FineTuneJob, plan: Plan, attempt: int, replica: int, needed: volumes.Storage, pool: PoolPodSettings
) -> Manifest:
    """Return the trainer's container."""
    return {
        "name": names.TRAINER_CONTAINER,
        "image": plan.image,
        "command": ["python"],
        "args": ["-m", "finetune_trainer", "train"],
        "env": pool_pod.environment(pool)
        + volumes.environment(needed)
        + libraries(pool)
        + rendezvous(job, plan, attempt, replica),
        "resources": resources(plan),
        "volumeMounts": [
            *volumes.mounts(needed),
            {"name": "shm", "mountPath": volumes.SHARED_MEMORY},
            *pool_pod.mounts(pool),
        ],
        "terminationMessagePath": volumes.TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": container_security(),
    }


def libraries(pool: PoolPodSettings) -> list[Manifest]:
    """Return the switches that the pool does not set itself."""
    theirs = {each.key for each in pool.environment}
    return [variable(name, value) for name, value in LIBRARIES.items() if name not in theirs]


def resources(plan: Plan) -> Manifest:
    """Return requests equal to limits: the class that is evicted last. GPUs allow nothing else."""
    amounts = pool_pod.resources(plan.pool.pod) | {
        "cpu": str(plan.host.cpus),
        "memory": f"{plan.host.memory_gib}Gi",
        "ephemeral-storage": f"{plan.host.ephemeral_gib}Gi",
        plan.pool.resource_name: str(plan.gpus_per_replica),
    }
    return {"requests": amounts, "limits": dict(amounts)}


def placement(plan: Plan, avoided: tuple[str, ...], architectures: Sequence[str]) -> Manifest:
    """Return where the Pod may run: the pool's nodes, rather not those that failed twice or refused a Pod."""
    placed: Manifest = {"tolerations": [*map(toleration, plan.pool.tolerations), *SILENT_NODE]}
    if plan.pool.node_selector:
        placed["nodeSelector"] = {term.key: term.value for term in plan.pool.node_selector}
    spared = (away_from(avoided),) if avoided else ()
    return placed | {"affinity": node_affinity(architectures, *spared)}


def avoided_nodes(status: FineTuneJobStatus, *, before: int) -> tuple[str, ...]:
    """Return the nodes that failed at least two earlier attempts, and those that refused one."""
    failed = [entry.failed_node for entry in status.attempts or () if entry.number < before and entry.failed_node]
    often = {node for node in failed if failed.count(node) >= FAILURES_BEFORE_AVOIDED}
    return tuple(sorted(often | set(status.refused_nodes)))


def gang(job: FineTuneJob, plan: Plan, attempt: int, name: str) -> Manifest:
    """Return what replicas need to find each other, and the gate that holds them until all of them exist."""
    if plan.replicas == 1:
        return {}
    return {
        "hostname": name,
        "subdomain": names.service_name(job.metadata.name, attempt),
        "schedulingGates": [{"name": names.GANG_GATE}],
    }
