"""The arithmetic behind a plan's time and money, in words: `finetune plan --explain`. Called by plan_view. Pure."""

from dataclasses import fields

from finetune_operator.api.plan import ModelArchitecture, Plan
from finetune_operator.api.preflight import PreflightStatus
from finetune_operator.planning.candidate import Candidate
from finetune_operator.planning.layouts import counted
from finetune_operator.planning.models.attention import no_varlen
from finetune_operator.planning.planner import PlannedRun
from finetune_operator.planning.speed.step import step_time


def rate(tokens_per_second: float) -> str:
    """Return a speed; a slow one with its decimals."""
    return f"{tokens_per_second:,.0f} tokens/s" if tokens_per_second >= 10 else f"{tokens_per_second:.2g} tokens/s"


def _step(chosen: Candidate) -> str:
    """Return what a step is spent on, the longest first."""
    time = step_time(chosen.work, chosen.layout, chosen.speed, chosen.pool.spec.interconnect)
    terms = sorted(((getattr(time, term.name), term.name) for term in fields(time)), reverse=True)
    shown = ", ".join(f"{name} {seconds:.2f}" for seconds, name in terms if seconds >= 0.005)
    return f"{time.total:,.2f} s = {shown}; {counted(chosen.layout.gradient_accumulation_steps, 'micro step')}"


def _held_for(chosen: Candidate) -> str:
    """Return what the GPUs are held for, in the order of a run."""
    spent = ((term.name, getattr(chosen.duration, term.name)) for term in fields(chosen.duration))
    return ", ".join(f"{name} {seconds:,.0f}" for name, seconds in spent if seconds >= 0.5)


ATTENTION = {
    "varlen": "rows lie end to end, without padding or masks",
    "sdpa": "rows are padded or have a mask",
    "eager": "scores are written out",
}


def _attention(plan: Plan, model: ModelArchitecture) -> str:
    """Return which attention is used, and why not the one without masks."""
    kind = plan.attention
    why = "" if kind == "varlen" else no_varlen(model) or "NEFTune's noise depends on the length of a row"
    return f"{kind}: {ATTENTION[kind]}{f', because {why}' if why else ''}"


def explanation(planned: PlannedRun, found: PreflightStatus, model: ModelArchitecture) -> tuple[str, ...]:
    """Return the arithmetic behind time and money, in words."""
    plan = planned.plan
    gpus = plan.replicas * plan.gpus_per_replica
    speed = float(plan.estimate.tokens_per_second)
    tokens = plan.steps * plan.tokens_per_step
    return (
        "",
        f"tokens        {found.tokens:,} per epoch; {plan.steps} steps x {plan.tokens_per_step:,} = {tokens:,}",
        f"attention     {_attention(plan, model)}",
        f"step          {_step(planned.chosen)}",
        f"training      {tokens:,} / ({rate(speed)}) = {tokens / speed:,.0f} s",
        f"total         {plan.estimate.seconds:,} s = {_held_for(planned.chosen)}",
        f"GPU-hours     {counted(gpus, 'GPU')} x {plan.estimate.seconds:,} s / 3600 = {plan.estimate.gpu_hours}",
        f"cost          {plan.estimate.gpu_hours} x ${plan.pool.price_per_gpu_hour_usd} = ${plan.estimate.cost_usd}",
        f"model         {model.num_parameters:,} parameters, {model.num_active_parameters:,} active per token",
        f"              {model.num_layers} layers of width {model.hidden_size}, vocabulary {model.vocab_size:,}",
    )
