"""Find what fits: per method, pool and number of GPUs the fastest layout that fits. Used by planner."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from finetune_operator.api.plan import ModelArchitecture, Plan
from finetune_operator.api.pools import GPUPool
from finetune_operator.api.preflight import PreflightStatus
from finetune_operator.api.resolved import Method, ResolvedSpec
from finetune_operator.api.spec import FineTuneJobSpec, LoraSpec, ResourcesSpec
from finetune_operator.planning.candidate import Candidate, Refused
from finetune_operator.planning.candidate_memory import MemoryModel
from finetune_operator.planning.defaults import resolve, training_rows
from finetune_operator.planning.host import host_shortage
from finetune_operator.planning.layouts import (
    GPU_PUBLISH_SECONDS,
    LADDER,
    PLAIN,
    Layout,
    Rung,
    Work,
    adapter_of,
    card_name,
    gpu_counts,
    illegal,
    micro_batch_sizes,
    sharding,
    shared_batches,
    split,
)
from finetune_operator.planning.models.adapter import adapter_parameters
from finetune_operator.planning.models.attention import attention_of
from finetune_operator.planning.pool_gpu import PoolGpu, gpu_of
from finetune_operator.planning.pool_gpu import refused as refused_gpu
from finetune_operator.planning.quota import UNLIMITED, NamespaceLimits
from finetune_operator.planning.speed.step import step_seconds

ROUNDING = 1.02
"""A default batch does not move for less: the last step of an epoch may be fuller with one batch than with another."""

BEYOND = 1.05
"""Of the card's memory: the least that a run needs which has run out of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is to be planned."""

    spec: FineTuneJobSpec
    architecture: ModelArchitecture
    preflight: PreflightStatus
    pools: Sequence[GPUPool]
    raised: float = 1.0
    """The factor on all estimates of GPU memory, after a run of this job needed more than was estimated."""
    limits: NamespaceLimits = UNLIMITED
    """The quotas of the job's namespace."""
    gpu_publish_seconds: int = GPU_PUBLISH_SECONDS
    """Longest time that GPUs wait for the upload of a model."""
    methods: tuple[Method, ...] = get_args(Method)
    """Those that `method: auto` and remedies may name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All options of one method."""

    fitting: tuple[Candidate, ...]
    refused: tuple[Refused, ...]


def search(question: Question, method: Method) -> Findings:
    """Return the best layout, or the reason why there is none, per pool and number of GPUs."""
    found = list(_options(work_of(question, method), question.pools, question.raised))
    return Findings(
        fitting=tuple(one for one in found if isinstance(one, Candidate)),
        refused=tuple(one for one in found if isinstance(one, Refused)),
    )


def work_of(question: Question, method: Method) -> Work:
    """Return what the run computes with a method."""
    spec, architecture, preflight = question.spec, question.architecture, question.preflight
    resolved = resolve(spec, method=method, architecture=architecture, preflight=preflight)
    rows = training_rows(spec, preflight, architecture)
    return Work(
        resolved=resolved,
        architecture=architecture,
        rows=rows,
        mean_tokens=max(1.0, preflight.tokens / rows),
        long_tokens=max(1, preflight.tokens_p99),
        evaluation_rows=preflight.evaluation_examples,
        evaluation_tokens=max(1.0, preflight.tokens / max(1, preflight.examples)),
        generated_answers=preflight.generated_answers,
        label_answers=preflight.label_answers,
        task_tokens=preflight.task_tokens,
        task_tokens_max=preflight.task_tokens_max,
        model_bytes=preflight.model_bytes,
        model_dtype=preflight.model_dtype,
        batch_is_fixed=spec.training.global_batch_size is not None,
        num_trainable_parameters=trainable_parameters(architecture, method, resolved.lora),
        attention=attention_of(
            architecture, packed=resolved.training.packing == "always", noise=float(resolved.training.neftune_alpha) > 0
        ),
        casts_inputs=_casts_inputs(resolved),
        limits=question.limits,
        gpu_publish_seconds=question.gpu_publish_seconds,
    )


def _casts_inputs(resolved: ResolvedSpec) -> bool:
    """Adapters read 16-bit inputs as they are, unless norms over a float32 base made float32 ones, or DoRA asks for their type."""
    lora = resolved.lora
    return lora is not None and (
        lora.variant == "dora" or (resolved.method == "lora" and resolved.training.precision == "mixed")
    )


def raised_by(question: Question, exceeded: Plan) -> float:
    """Return the factor by which the memory of a plan that did not suffice was underestimated, at least.

    The peak that was measured is what the card has: how much more was needed nobody knows, so BEYOND of it is assumed.
    """
    work = work_of(question, exceeded.method)
    layout = Layout(
        method=exceeded.method, replicas=exceeded.replicas, gpus_per_replica=exceeded.gpus_per_replica,
        rung=Rung(zero_stage=exceeded.zero_stage, offload=exceeded.offload),
        activation_checkpointing=exceeded.activation_checkpointing, micro_batch_size=exceeded.micro_batch_size,
        gradient_accumulation_steps=exceeded.gradient_accumulation_steps,
    )  # fmt: skip
    return BEYOND * float(exceeded.vram.usable_gib) / MemoryModel(work).of(layout).request_gib


def trainable_parameters(architecture: ModelArchitecture, method: Method, lora: LoraSpec | None) -> int:
    """Return the parameters with gradients: all of them, or the adapter and the modules trained in full beside it."""
    if method == "full" or lora is None:
        return architecture.num_parameters
    embedding = architecture.vocab_size * architecture.hidden_size
    saved = sum(embedding for name in lora.modules_to_save or () if name.endswith(("embed_tokens", "lm_head")))
    return adapter_parameters(architecture, adapter_of(lora)) + saved


def _options(work: Work, pools: Sequence[GPUPool], raised: float) -> Iterator[Candidate | Refused]:
    """Pools of the same nodes, such as a spot and an on-demand one, differ in price and capacity, not in layouts."""
    resources, offered = work.resolved.resources, allowed(pools, work.resolved)
    counts = {gpus for pool in offered for gpus in gpu_counts(pool.spec, resources)}
    batches = shared_batches(counts, wanted=work.global_batch_size, fixed=work.batch_is_fixed)
    memory = MemoryModel(work, raised)
    solved: dict[tuple[object, ...], Candidate | Refused] = {}
    for pool in offered:
        spec = pool.spec
        requested = (spec.resource_name, str(spec.pod.resources)) if work.limits != UNLIMITED else ()
        nodes = (spec.gpu_type, spec.memory_gib, spec.gpus_per_node, str(spec.node), str(spec.reached), *requested)
        for gpus in gpu_counts(spec, resources):
            if (*nodes, gpus) not in solved:
                solved[*nodes, gpus] = _option(work, pool, gpus, batches, memory)
            yield replace(solved[*nodes, gpus], pool=pool)


def allowed(pools: Sequence[GPUPool], spec: FineTuneJobSpec | ResolvedSpec) -> tuple[GPUPool, ...]:
    """Return the pools that a spec lets the planner use. A budget means nothing on a pool without a price."""
    priced = spec.run_policy.budget is not None
    named = named_pools(pools, spec.resources)
    return tuple(pool for pool in named if not priced or float(pool.spec.price_per_gpu_hour_usd) > 0)


def named_pools(pools: Sequence[GPUPool], resources: ResourcesSpec) -> tuple[GPUPool, ...]:
    """Return the pools that spec.resources names, or all."""
    names, capacity = resources.pools, resources.capacity
    return tuple(
        pool
        for pool in pools
        if (names is None or pool.metadata.name in names) and capacity in ("any", pool.spec.capacity)
    )


def _option(work: Work, pool: GPUPool, gpus: int, batches: Sequence[int], memory: MemoryModel) -> Candidate | Refused:
    """Return the layout with the batch nearest to the default, or with another where that is faster by more than rounding."""
    divisible = [batch for batch in batches if batch % gpus == 0]
    if not divisible:
        reason = f"globalBatchSize {work.global_batch_size} is not a multiple of {gpus} GPUs"
        return Refused(method=work.method, pool=pool, gpus=gpus, reason=reason)
    gpu = gpu_of(pool.spec)
    if gpu is None:
        return Refused(method=work.method, pool=pool, gpus=gpus, reason=refused_gpu(pool.spec))
    tried = [_with_batch(work, pool, gpu, batch, gpus, memory=memory) for batch in divisible]
    fitting = [one for one in tried if isinstance(one, Candidate)]
    if not fitting:
        return tried[0]
    fastest = min(fitting, key=lambda one: one.seconds)
    return fitting[0] if fitting[0].seconds <= ROUNDING * fastest.seconds else fastest


def _with_batch(
    work: Work, pool: GPUPool, gpu: PoolGpu, batch: int, gpus: int, *, memory: MemoryModel
) -> Candidate | Refused:
    """Return the layout of the first rung that fits."""
    refused: list[Refused] = []
    for rung in LADDER[work.method]:
        tried = _on_rung(work, pool, gpu, start=_start(work, pool, gpus, batch, rung), memory=memory)
        if isinstance(tried, Candidate):
            return tried
        refused.append(tried)
    return min(refused, key=lambda one: one.excess)


def _start(work: Work, pool: GPUPool, gpus: int, batch: int, rung: Rung) -> Layout:
    replicas, per_replica = split(gpus, pool.spec.gpus_per_node)
    return Layout(
        method=work.method, replicas=replicas, gpus_per_replica=per_replica, rung=rung, activation_checkpointing=True,
        micro_batch_size=1, gradient_accumulation_steps=batch // gpus,
    )  # fmt: skip


def _on_rung(work: Work, pool: GPUPool, gpu: PoolGpu, *, start: Layout, memory: MemoryModel) -> Candidate | Refused:
    """Return the fastest layout of a rung that fits card and node."""
    if reason := illegal(start.rung, start.gpus, work.resolved):
        return Refused(method=work.method, pool=pool, gpus=start.gpus, reason=reason)
    need, shortage = memory.of(start), host_shortage(work, start, pool, card_gib=gpu.usable_gib)
    too_large = need.request_gib > gpu.usable_gib
    if too_large or shortage:
        card = (
            f"needs {need.request_gib:.1f} GiB per GPU{need.when}, but {card_name(pool)} has {gpu.usable_gib:.1f} GiB"
        )
        reasons = ([card] if too_large else []) + ([shortage.reason] if shortage else [])
        return Refused(
            method=work.method,
            pool=pool,
            gpus=start.gpus,
            sharding=sharding(start.rung, start.gpus) if start.rung != PLAIN else "",
            reason="; ".join(reasons),
            excess=max(0.0, need.request_gib / gpu.usable_gib - 1) + (shortage.excess if shortage else 0.0),
            memory=need if too_large else None,
            usable_gib=gpu.usable_gib,
        )
    return _fastest(work, pool, gpu, start=start, memory=memory)


def _fastest(work: Work, pool: GPUPool, gpu: PoolGpu, *, start: Layout, memory: MemoryModel) -> Candidate:
    """Micro batch and activation checkpointing by time, among what fits."""
    speed, usable, links = gpu.speed, gpu.usable_gib, pool.spec.reached
    layouts = [layout for recompute in (True, False) for layout in _sizes(work, start, recompute, memory, usable)]
    timed = [(step_seconds(work, layout, speed, links), layout) for layout in layouts]
    seconds, layout = min(timed, key=lambda pair: pair[0])
    return Candidate(
        work=work, pool=pool, layout=layout, memory=memory.of(layout), usable_gib=usable, speed=speed,
        step_seconds=seconds, answers_at_once=memory.answers_at_once(layout, usable),
    )  # fmt: skip


def _sizes(work: Work, start: Layout, recompute: bool, memory: MemoryModel, usable: float) -> list[Layout]:
    """Return the layouts of every micro batch that fits. Memory grows with it, so halving finds the last."""
    layouts = [
        start.with_micro_batch(size, activation_checkpointing=recompute)
        for size in micro_batch_sizes(start.gradient_accumulation_steps, work.row_tokens)
    ]
    fits, too_many = 0, len(layouts)
    while fits < too_many:
        middle = (fits + too_many) // 2
        if memory.of(layouts[middle]).request_gib <= usable:
            fits = middle + 1
        else:
            too_many = middle
    return layouts[:fits]
