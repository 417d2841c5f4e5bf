"""One trainer Pod: one replica, one node, torchrun inside. Built from pinned values only. Called by children."""

from finetune_contract import RunConfig, wire

from finetune_operator.api.plan import Plan
from finetune_operator.api.pools import Toleration
from finetune_operator.api.status import AttemptStatus, FineTuneJob, FineTuneJobStatus
from finetune_operator.manifests import names, pool_pod, volumes
from finetune_operator.manifests.labels import Manifest, attempt_labels, metadata
from finetune_operator.manifests.pinned import pinned
from finetune_operator.manifests.rendezvous import rendezvous
from finetune_operator.manifests.security import container_security, isolated
from finetune_operator.manifests.volumes import variable

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
rounded up to a power of two otherwise, which nearly doubles a large buffer; and the hub's client loads with all cores."""


def trainer_pod(job: FineTuneJob, status: FineTuneJobStatus, config: RunConfig, replica: int) -> Manifest:
    """Return one replica of an attempt. All of them are told the same."""
    found = pinned(status)
    plan, resolved = found.plan, found.resolved
    attempt = config.attempt
    needed = volumes.storage(config)
    name = names.trainer_pod_name(job.metadata.name, attempt, replica)
    settings = plan.pool.pod
    labels = pool_pod.labels(settings) | attempt_labels(job, attempt) | {names.REPLICA_LABEL: str(replica)}
    annotations = pool_pod.annotations(settings) | {names.RUN_ANNOTATION: wire.dumps(config)} | DO_NOT_MOVE
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(job, name, labels) | {"annotations": annotations},
        "spec": isolated(resolved.service_account_name)
        | placement(plan, avoided_nodes(status.attempts or (), before=attempt))
        | gang(job, plan, attempt, name)
        | pool_pod.pod_fields(settings)
        | ({"priorityClassName": resolved.priority_class_name} if resolved.priority_class_name else {})
        | {
            "terminationGracePeriodSeconds": plan.checkpoint.grace_seconds,
            "containers": [container(job, plan, attempt, replica, needed)],
            "volumes": [
                *volumes.volumes(needed, workspace_gib=plan.host.ephemeral_gib),
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{plan.host.shm_gib}Gi"}},
                *pool_pod.volumes(settings),
            ],
        },
    }


def container(job: FineTuneJob, plan: Plan, attempt: int, replica: int, needed: volumes.Storage) -> Manifest:
    """Return the trainer's container."""
    return {
        "name": names.TRAINER_CONTAINER,
        "image": plan.image,
        "command": ["python"],
        "args": ["-m", "finetune_trainer", "train"],
        "env": pool_pod.environment(plan.pool.pod)
        + volumes.environment(needed)
        + [variable(name, value) for name, value in LIBRARIES.items()]
        + rendezvous(job, plan, attempt, replica),
        "resources": resources(plan),
        "volumeMounts": [
            *volumes.mounts(needed),
            {"name": "shm", "mountPath": volumes.SHARED_MEMORY},
            *pool_pod.mounts(plan.pool.pod),
        ],
        "terminationMessagePath": volumes.TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": container_security(),
    }


def resources(plan: Plan) -> Manifest:
    """Return requests equal to limits: the class that is evicted last. GPUs allow nothing else."""
    amounts = {
        "cpu": str(plan.host.cpus),
        "memory": f"{plan.host.memory_gib}Gi",
        "ephemeral-storage": f"{plan.host.ephemeral_gib}Gi",
        plan.pool.resource_name: str(plan.gpus_per_replica),
    } | pool_pod.resources(plan.pool.pod)
    return {"requests": amounts, "limits": dict(amounts)}


def placement(plan: Plan, avoided: tuple[str, ...]) -> Manifest:
    """Return where the Pod may run: the pool's nodes, rather not those that failed twice."""
    placed: Manifest = {"tolerations": [toleration(entry) for entry in plan.pool.tolerations]}
    if plan.pool.node_selector:
        placed["nodeSelector"] = {term.key: term.value for term in plan.pool.node_selector}
    if avoided:
        placed["affinity"] = {"nodeAffinity": away_from(avoided)}
    return placed


def toleration(entry: Toleration) -> Manifest:
    """Return a toleration as Pods spell it: empty fields mean something else there."""
    return entry.model_dump(exclude_none=True, exclude_defaults=True) | {"operator": entry.operator}


def away_from(avoided: tuple[str, ...]) -> Manifest:
    """Return a preference against nodes. Not a demand: where the pool has no other node, a bad one is tried again."""
    terms = [{"key": "metadata.name", "operator": "NotIn", "values": [name]} for name in avoided]
    preference = {"weight": 100, "preference": {"matchFields": terms}}
    return {"preferredDuringSchedulingIgnoredDuringExecution": [preference]}


def avoided_nodes(attempts: list[AttemptStatus] | tuple[()], *, before: int) -> tuple[str, ...]:
    """Return the nodes that failed at least two earlier attempts."""
    failed = [entry.failed_node for entry in attempts if entry.number < before and entry.failed_node]
    return tuple(sorted({node for node in failed if failed.count(node) >= FAILURES_BEFORE_AVOIDED}))


def gang(job: FineTuneJob, plan: Plan, attempt: int, name: str) -> Manifest:
    """Return what replicas need to find each other, and the gate that holds them until all of them exist."""
    if plan.replicas == 1:
        return {}
    return {
        "hostname": name,
        "subdomain": names.service_name(job.metadata.name, attempt),
        "schedulingGates": [{"name": names.GANG_GATE}],
    }
