"""The arithmetic of a server, from a model's dimensions and in lines to read. The terms are finetune_contract.serving's. Pure.

Called by the command line and by manifests.
"""

from collections.abc import Sequence

from finetune_contract.engines import max_lora_rank
from finetune_contract.served import Load, ServedModel
from finetune_contract.serving.sizes import MOST_GPUS, SIXTEEN_BIT, UTILISATION, gpus_for, longest_for, serving_needs

from finetune_operator.api.plan import ModelArchitecture
from finetune_operator.api.pools import GPUPool
from finetune_operator.planning.models.adapter import Adapter, adapter_parameters
from finetune_operator.planning.pool_gpu import refused
from finetune_operator.planning.pools.gpus import gpu


def served_model(shape: ModelArchitecture) -> ServedModel:
    """Return the numbers of a model that its server's memory depends on."""
    return ServedModel(
        num_parameters=shape.num_parameters,
        num_attention_heads=shape.num_attention_heads,
        kv_bytes_per_token=2 * shape.num_layers * shape.num_key_value_heads * shape.head_dim * SIXTEEN_BIT,
        adapter_parameters_per_rank=adapter_parameters(shape, Adapter(lora_rank=1)),
    )


def cheapest_to_serve(model: ServedModel, pools: Sequence[GPUPool]) -> GPUPool | None:
    """Return the pool whose GPUs hold the model and its requests for the least money; None where no pool's do."""
    prices = {pool.metadata.name: price for pool in pools if (price := _usd_per_hour(model, pool)) is not None}
    return min(
        (pool for pool in pools if pool.metadata.name in prices),
        key=lambda pool: (prices[pool.metadata.name], pool.metadata.name),
        default=None,
    )


def _usd_per_hour(model: ServedModel, pool: GPUPool) -> float | None:
    known = gpu(pool.spec.gpu_type)
    if known is None or refused(pool.spec) or "/mig-" in pool.spec.resource_name:
        return None
    gpus = gpus_for(serving_needs(model, Load()), model, known.memory_gib)
    return gpus * float(pool.spec.price_per_gpu_hour_usd) if gpus and gpus <= pool.spec.gpus_per_node else None


def described(model: ServedModel, load: Load, *, gpu_type: str, memory_gib: float) -> Sequence[str]:
    """Return the arithmetic in lines: what is held, on how many GPUs, with which options."""
    needs = serving_needs(model, load)
    gpus = gpus_for(needs, model, memory_gib)
    total = needs.weights_gib + needs.kv_cache_gib + needs.lora_gib
    kv = f"{model.kv_bytes_per_token / 1024:,.0f} KiB x {load.length:,} tokens x {load.concurrency} requests"
    terms = [f"weights {needs.weights_gib:.2f} GiB", f"KV cache {needs.kv_cache_gib:.2f} GiB ({kv})"]
    if load.adapters:
        rank = max_lora_rank(load.lora_rank)
        terms.append(
            f"{load.adapters} LoRA slot{'s' if load.adapters > 1 else ''} of rank {rank} {needs.lora_gib:.2f} GiB"
        )
    if gpus is None:
        longest = longest_for(model, load, gpus=MOST_GPUS, memory_gib=memory_gib)
        fits = f"{MOST_GPUS} hold requests of {longest:,} tokens" if longest else f"{MOST_GPUS} do not hold the weights"
        where = f"does not fit on {MOST_GPUS} x {gpu_type}: {fits} at this concurrency"
    else:
        each = needs.per_gpu_gib(gpus)
        where = f"{gpus} x {gpu_type}: {each:.2f} of {UTILISATION * memory_gib:.2f} GiB per GPU, {needs.engine_gib} for the engine included"
    return ("; ".join(terms) + f" = {total:.2f} GiB", where)
