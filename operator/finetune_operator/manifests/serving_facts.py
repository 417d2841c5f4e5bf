"""What the objects that serve a result are made of, as far as the operator knows it. Called by run_config, export and the command line."""

from finetune_contract.served import ServingFacts

from finetune_operator.api.plan import PoolNodes
from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.manifests.nodes import toleration
from finetune_operator.planning.pools.gpus import gpu
from finetune_operator.planning.serving import served_model


def serving_facts(status: FineTuneJobStatus) -> ServingFacts | None:
    """Return the facts of a job that was planned, or whose adapters were merged; None of others."""
    found = status.preflight
    image, pool = _image_and_pool(status)
    if not image or found is None or found.architecture is None:
        return None
    model = served_model(found.architecture)
    if pool is None:
        return ServingFacts(model=model, image=image, gpu_type="", gpu_memory_gib=0.0, resource_name="")
    return ServingFacts(
        model=model,
        image=image,
        gpu_type=pool.gpu_type,
        gpu_memory_gib=_gpu_memory_gib(status, pool),
        resource_name=pool.resource_name,
        node_selector={term.key: term.value for term in pool.node_selector},
        tolerations=tuple(toleration(entry) for entry in pool.tolerations),
    )


def _gpu_memory_gib(status: FineTuneJobStatus, pool: PoolNodes) -> float:
    """Return the memory of one GPU: of a slice of a card, what the plan found usable. 0 where the catalogue does not have it."""
    known = gpu(pool.gpu_type)
    if known is None:
        return 0.0
    return min(known.memory_gib, float(status.plan.vram.usable_gib)) if status.plan is not None else known.memory_gib


def _image_and_pool(status: FineTuneJobStatus) -> tuple[str, PoolNodes | None]:
    if status.plan is not None:
        return status.plan.image, status.plan.pool
    if status.export is not None:
        return status.export.image, status.export.serving_pool
    return "", None
