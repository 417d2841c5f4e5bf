"""Turn the chosen candidate into status.plan, with its range and its alternatives. Called by planner."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from finetune_contract import cost

from finetune_operator.api.plan import (
    Alternative,
    CostEstimate,
    ExportPlan,
    Plan,
    PoolNodes,
    PoolSnapshot,
    VramEstimate,
)
from finetune_operator.api.pools import GPUPool
from finetune_operator.api.resolved import Method
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.planning.candidate import Candidate, Refused, best
from finetune_operator.planning.exports import export_plan, model_of
from finetune_operator.planning.host import is_mounted
from finetune_operator.planning.layouts import LOSS_KERNEL, Layout, Work
from finetune_operator.planning.memory.estimate import MemoryEstimate
from finetune_operator.planning.quota import pods_of, shares
from finetune_operator.planning.saving import is_handed_over, published_bytes
from finetune_operator.planning.search import Findings
from finetune_operator.planning.speed.duration import evaluate_every_steps
from finetune_operator.planning.speed.step import tokens_per_second
from finetune_operator.planning.speed.utilisation import flops_per_token, peak_tflops, utilisation

MOST_ALTERNATIVES, MOST_WARNINGS, MOST_QUOTAS = 5, 16, 8
LONGEST_SUMMARY = 256
"""Characters that status has room for; the name of a pool alone may have 253."""

Confidence = Literal["high", "medium", "low"]

COST_RANGE: dict[Confidence, tuple[float, float]] = {"high": (0.8, 1.3), "medium": (0.7, 1.5), "low": (0.4, 3.0)}
"""Of the estimate, by confidence: about eight in ten measured runs lie inside (tests/bench/bench_throughput.py counts them).
"""


def plan_of(chosen: Candidate, *, reason: str, told: Sequence[str], others: Sequence[Alternative], image: str) -> Plan:
    """Return the plan as it is pinned in status."""
    layout, work = chosen.layout, chosen.work
    training, peak = work.resolved.training, peak_tflops(chosen.pool.spec)
    return Plan(
        summary=chosen.summary,
        method=layout.method,
        method_reason=reason,
        pool=pool_snapshot(chosen.pool),
        quotas=list(quota_shares(chosen))[:MOST_QUOTAS],
        replicas=layout.replicas,
        gpus_per_replica=layout.gpus_per_replica,
        zero_stage=layout.rung.zero_stage,
        offload=layout.rung.offload,
        activation_checkpointing=layout.activation_checkpointing,
        attention=work.attention,
        loss_kernel=LOSS_KERNEL,
        precision=training.precision,
        optimizer=training.optimizer,
        packing=work.packed,
        micro_batch_size=layout.micro_batch_size,
        gradient_accumulation_steps=layout.gradient_accumulation_steps,
        global_batch_size=layout.global_batch_size,
        steps=chosen.steps,
        tokens_per_step=round(layout.global_batch_size * work.mean_tokens),
        answers_at_once=chosen.answers_at_once,
        evaluate_every_steps=evaluate_every_steps(work, chosen.steps, layout.global_batch_size),
        num_trainable_parameters=work.num_trainable_parameters,
        flops_per_token=flops_per_token(work),
        peak_tflops_per_gpu=None if peak is None else f"{peak:g}",
        vram=vram_estimate(chosen),
        host=chosen.host,
        checkpoint=chosen.checkpoint,
        export=_export(work, layout),
        estimate=cost_estimate(chosen),
        image=image,
        alternatives=list(others),
        warnings=list(told)[:MOST_WARNINGS],
    )


def quota_shares(chosen: Candidate) -> tuple[str, ...]:
    """Return what the run takes of the quotas of its namespace."""
    layout = chosen.layout
    pods = pods_of(chosen.pool.spec, layout.replicas, layout.gpus_per_replica, chosen.host)
    return shares(chosen.work.limits, pods)


def _export(work: Work, layout: Layout) -> ExportPlan | None:
    model = model_of(work.resolved, layout.rung.zero_stage, work.architecture, work.model_bytes, work.model_dtype)
    return export_plan(
        work.resolved.output.exports or (),
        architecture=work.architecture,
        model_bytes=work.model_bytes,
        adapter_bytes=0 if work.method == "full" else round(published_bytes(work)),
        mounted=is_mounted(work),
        model=model if is_handed_over(work, layout) else None,
    )


def pool_nodes(pool: GPUPool) -> PoolNodes:
    """Return what is pinned of a pool's nodes."""
    spec = pool.spec
    return PoolNodes(
        name=pool.metadata.name,
        gpu_type=spec.gpu_type,
        resource_name=spec.resource_name,
        node_selector=spec.node_selector,
        tolerations=spec.tolerations,
    )


def pool_snapshot(pool: GPUPool) -> PoolSnapshot:
    """Return what is pinned of a pool: later edits do not reshape the run."""
    spec = pool.spec
    return PoolSnapshot(
        **dict(pool_nodes(pool)),
        pod=spec.pod,
        capacity=spec.capacity,
        price_per_gpu_hour_usd=spec.price_per_gpu_hour_usd,
        provisioning_seconds=spec.provisioning_seconds,
    )


def terms_gib(memory: MemoryEstimate) -> dict[str, float]:
    """Return the terms as status.plan.vram has them. Gathered weights are weights: allocated is all but overhead."""
    return {
        "weights": memory.weights_gib + memory.gathers_gib,
        "adapter": memory.adapter_gib,
        "gradients": memory.gradients_gib,
        "optimizer": memory.optimizer_gib,
        "activations": memory.activations_gib,
        "logits": memory.logits_gib,
        "overhead": memory.slack_gib + memory.context_gib,
    }


def vram_estimate(chosen: Candidate) -> VramEstimate:
    """Return the terms as decimal strings; the total is the sum of the rounded terms."""
    terms = {f"{name}_gib": f"{gib:.2f}" for name, gib in terms_gib(chosen.memory).items()}
    total = sum(float(value) for value in terms.values())
    return VramEstimate.model_validate(
        {
            **terms,
            "total_gib": f"{total:.2f}",
            "request_gib": f"{chosen.memory.request_gib:.2f}",
            "usable_gib": f"{chosen.usable_gib:.2f}",
            "peak": "loading" if chosen.memory.phase == "loading" else "training",
            "confidence": chosen.memory.confidence,
            "confidence_reason": chosen.memory.confidence_reason,
        }
    )


def cost_estimate(chosen: Candidate) -> CostEstimate:
    """Return time and money with their range."""
    price, held = chosen.pool.spec.price_per_gpu_hour_usd, chosen.gpu_seconds
    level, reason = confidence(chosen)
    low, high = COST_RANGE[level]
    speed = tokens_per_second(chosen.work, chosen.layout, chosen.speed, chosen.pool.spec.reached)
    peak, flops = peak_tflops(chosen.pool.spec), flops_per_token(chosen.work)
    used = utilisation(speed, flops, gpus=chosen.layout.gpus, peak=peak)
    return CostEstimate(
        tokens_per_second=f"{speed:.0f}" if speed >= 100 else f"{speed:.4f}",
        model_flop_utilisation=None if used is None else f"{used:.3f}",
        seconds=chosen.seconds,
        gpu_hours=cost.gpu_hours(held),
        cost_usd=cost.cost_usd(held, price),
        low_usd=cost.cost_usd(round(held * low), price),
        high_usd=cost.cost_usd(round(held * high), price),
        confidence=level,
        confidence_reason=reason,
    )


def confidence(chosen: Candidate) -> tuple[Confidence, str]:
    """Say how well time and money are covered by measured runs, and why not better."""
    layout, work, speed = chosen.layout, chosen.work, chosen.speed
    table: tuple[tuple[bool, Confidence, str], ...] = (
        (not speed.known, "low", f"no training measurements for {chosen.pool.spec.gpu_type}"),
        (
            work.architecture.num_experts > 0,
            "low",
            "only two mixture-of-experts models were measured, Mixtral and Llama 4 Scout",
        ),
        (layout.rung.offload != "none", "medium", "the speed with offload is calculated, not measured"),
        (layout.replicas > 1, "medium", "few measured runs on several nodes"),
        (work.attention == "eager", "medium", "the speed of eager attention is calculated, not measured"),
        (speed.fast, "medium", "few published runs on H100 or later GPUs"),
    )
    return next(((level, reason) for applies, level, reason in table if applies), ("high", ""))


def alternatives(
    chosen: Candidate, findings: Mapping[Method, Findings], spec: FineTuneJobSpec
) -> tuple[Alternative, ...]:
    """Return up to five other layouts: the cheapest and the fastest of the method, the best of the other methods."""
    shown = [_fits(one) for one in _fitting(chosen, findings, spec)]
    refused = [_refused(one) for one in _nearest_refusals(chosen, findings)]
    room = max(1, MOST_ALTERNATIVES - len(shown)) if refused else 0
    return (*shown[: MOST_ALTERNATIVES - room], *refused[:room])


def _fitting(chosen: Candidate, findings: Mapping[Method, Findings], spec: FineTuneJobSpec) -> tuple[Candidate, ...]:
    same = findings[chosen.layout.method].fitting
    on_other_pools = [one for one in same if one.pool is not chosen.pool]
    wanted = [
        min(same, key=lambda one: one.weight, default=None),
        min(same, key=lambda one: one.seconds, default=None),
        *(best(found.fitting, spec) for method, found in findings.items() if method != chosen.layout.method),
        best(on_other_pools, spec),
    ]
    seen = {chosen.summary + chosen.pool.metadata.name}
    kept = []
    for one in wanted:
        if one is not None and one.summary + one.pool.metadata.name not in seen:
            seen.add(one.summary + one.pool.metadata.name)
            kept.append(one)
    return tuple(kept)


def _nearest_refusals(chosen: Candidate, findings: Mapping[Method, Findings]) -> tuple[Refused, ...]:
    """Per method: what came nearest to fitting on fewer GPUs, or at all."""
    nearest = []
    for found in findings.values():
        close = [one for one in found.refused if one.excess < math.inf]
        if close and (not found.fitting or close[0].method == chosen.layout.method):
            nearest.append(min(close, key=lambda one: (one.excess, one.gpus)))
    return tuple(nearest)


def _fits(one: Candidate) -> Alternative:
    price = one.pool.spec.price_per_gpu_hour_usd
    return Alternative(summary=_named(one), seconds=one.seconds, cost_usd=cost.cost_usd(one.gpu_seconds, price))


def _refused(one: Refused) -> Alternative:
    return Alternative(summary=_named(one), rejected=one.reason)


def _named(one: Candidate | Refused) -> str:
    """An 8B model in full on one card is understood only by those who read that its states are offloaded."""
    text = f"{one.summary} ({f'{one.sharding}, ' if one.sharding else ''}pool {one.pool.metadata.name})"
    return text if len(text) <= LONGEST_SUMMARY else f"{text[: LONGEST_SUMMARY - 3]}..."
