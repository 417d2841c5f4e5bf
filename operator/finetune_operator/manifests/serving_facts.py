"""What the objects that serve a result are made of, as far as the operator knows it. Called by run_config, export and the command line."""

from finetune_contract.served import ServingFacts

from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.manifests.nodes import toleration
from finetune_operator.planning.pools.gpus import gpu
from finetune_operator.planning.serving import served_model


def serving_facts(status: FineTuneJobStatus) -> ServingFacts | None:
    """Return the facts of a job that was planned; None where no nodes were chosen."""
    if status.plan is None or status.preflight is None or status.preflight.architecture is None:
        return None
    pool = status.plan.pool
    known = gpu(pool.gpu_type)
    return ServingFacts(
        model=served_model(status.preflight.architecture),
        image=status.plan.image,
        gpu_type=pool.gpu_type,
        gpu_memory_gib=known.memory_gib if known is not None else 0.0,
        resource_name=pool.resource_name,
        node_selector={term.key: term.value for term in pool.node_selector},
        tolerations=tuple(toleration(entry) for entry in pool.tolerations),
    )
