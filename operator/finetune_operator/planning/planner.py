"""Choose the layout of a run: method, pool, GPUs, micro batch, sharding. Called by lifecycle and the command line.

A ladder, not a search over everything: per method, pool and number of GPUs the first rung that fits is taken, its micro
batch is solved for, and of the few candidates left `optimizeFor` chooses. The global batch, and with it what is
learned, does not depend on the choice, but for a default that moves to what the GPUs share.
Read next: survey, search, candidate, methods, advice, report, refusal; then layouts, speed, host.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from finetune_operator.api.plan import ModelArchitecture, Plan
from finetune_operator.api.pools import GPUPool
from finetune_operator.api.preflight import PreflightStatus
from finetune_operator.api.resolved import Method, ResolvedSpec
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.errors import DoesNotFit
from finetune_operator.planning.advice import warnings
from finetune_operator.planning.candidate import Candidate
from finetune_operator.planning.layouts import GPU_PUBLISH_SECONDS, counted, gpu_counts, shareable_batch
from finetune_operator.planning.quota import UNLIMITED, NamespaceLimits
from finetune_operator.planning.refusal import refusal
from finetune_operator.planning.report import alternatives, plan_of
from finetune_operator.planning.search import Question, raised_by
from finetune_operator.planning.speed.duration import evaluate_every_steps, hours
from finetune_operator.planning.survey import Survey

METHODS: tuple[Method, ...] = ("lora", "qlora", "full")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """The pinned decision: the plan and the spec with every default, the planner's included."""

    plan: Plan
    resolved: ResolvedSpec
    chosen: Candidate
    """What the plan was made from: `finetune plan --explain` says more than status has room for."""


def plan(  # noqa: PLR0913 - what bounds a plan
    spec: FineTuneJobSpec,
    *,
    architecture: ModelArchitecture,
    preflight: PreflightStatus,
    pools: Sequence[GPUPool],
    image: str,
    exceeded: Plan | None = None,
    limits: NamespaceLimits = UNLIMITED,
    methods: tuple[Method, ...] = METHODS,
    gpu_publish_seconds: int = GPU_PUBLISH_SECONDS,
) -> PlannedRun:
    """Return the best plan under the limits of the spec and of the namespace, with the spec that it resolves to.

    `exceeded` is a plan of this job that ran out of GPU memory: all estimates are raised by what that one lacked at least.
    Raises DoesNotFit with need, supply and what would fit; JobError where the spec cannot be resolved.
    """
    question = Question(
        spec=spec, architecture=architecture, preflight=preflight, pools=pools, limits=limits, methods=methods,
        gpu_publish_seconds=gpu_publish_seconds,
    )  # fmt: skip
    if exceeded is not None:
        question = replace(question, raised=raised_by(question, exceeded))
    survey = Survey(question=question)
    choice = survey.choice()
    chosen = survey.best(choice) if choice else None
    if choice is None or chosen is None:
        raise DoesNotFit(refusal(question, survey.findings(_asked_method(spec))))
    told = (*choice.warnings, *_limit_warnings(spec, chosen), *warnings(question, chosen))
    others = alternatives(
        chosen,
        {method: survey.findings(method) for method in METHODS if method in (*methods, chosen.layout.method)},
        spec,
    )
    return PlannedRun(
        plan=plan_of(chosen, reason=choice.reason, told=told, others=others, image=image),
        resolved=resolved_by(chosen),
        chosen=chosen,
    )


def _asked_method(spec: FineTuneJobSpec) -> Method:
    """Return the method whose refusal is worth reading: the user's, or the one that needs least."""
    return "qlora" if spec.method == "auto" else spec.method


def _limit_warnings(spec: FineTuneJobSpec, chosen: Candidate) -> tuple[str, ...]:
    """Say what the budget, the deadline or the number of GPUs did to the plan."""
    budget, deadline = spec.run_policy.budget, spec.run_policy.active_deadline_seconds
    told = []
    if budget is not None and chosen.usd > float(budget.max_cost_usd):
        told.append(
            f"the estimated cost of ${chosen.usd:,.2f} exceeds the budget of ${budget.max_cost_usd}: the job will be suspended "
            "when the budget is spent, unless you raise runPolicy.budget.maxCostUSD"
        )
    if deadline is not None and chosen.seconds > deadline:
        told.append(
            f"the estimated time of {hours(chosen.seconds)} exceeds the limit of {hours(deadline)}: the job will be suspended "
            "then, unless you raise runPolicy.activeDeadlineSeconds"
        )
    return (*told, *_network_warnings(chosen), *_batch_warnings(chosen))


def _network_warnings(chosen: Candidate) -> tuple[str, ...]:
    """Say that a fast network stays unused because the Pods request no device for it."""
    spec = chosen.pool.spec
    if chosen.layout.replicas == 1 or spec.reached == spec.interconnect:
        return ()
    return (
        f"pool {chosen.pool.metadata.name} has {spec.interconnect.between_nodes} between its nodes, but its Pods request no device for it: "
        f"the plan counts {spec.reached.between_nodes_gbps} Gbit/s Ethernet. Name the device, such as rdma/ib or vpc.amazonaws.com/efa, in "
        "spec.pod.resources of the GPUPool",
    )


def _batch_warnings(chosen: Candidate) -> tuple[str, ...]:
    """Say that a default batch was rounded, or that one of the user's own keeps GPUs from being used."""
    asked, batch = chosen.work.global_batch_size, chosen.layout.global_batch_size
    if batch != asked:
        gpus = counted(chosen.layout.gpus, "GPU")
        why = (
            f"which divides evenly among {gpus}"
            if asked % chosen.layout.gpus
            else f"with which {gpus} {'trains' if chosen.layout.gpus == 1 else 'train'} faster"
        )
        return (
            f"the default globalBatchSize of {asked} was changed to {batch}, {why}: set training.globalBatchSize to keep a value",
        )
    if not chosen.work.batch_is_fixed:
        return ()
    counts = gpu_counts(chosen.pool.spec, chosen.work.resolved.resources)
    shared = [count for count in counts if batch % count == 0]
    if len(counts) == 1 or shareable_batch(batch) == batch or max(shared) == max(counts):
        return ()
    *others, last = map(str, shared)
    which = f"{', '.join(others)} or {last}" if others else last
    return (
        f"globalBatchSize {batch} splits evenly over {which} of {max(counts)} GPUs only: "
        f"{shareable_batch(batch)} would allow more layouts",
    )


def resolved_by(chosen: Candidate) -> ResolvedSpec:
    """Return the resolved spec with the planner's own values."""
    resolved, work, batch = chosen.work.resolved, chosen.work, chosen.layout.global_batch_size
    training: dict[str, int] = {"global_batch_size": batch}
    if resolved.training.max_steps is not None:
        training["epochs"] = math.ceil(resolved.training.max_steps * batch / work.rows)
    every = evaluate_every_steps(work, chosen.steps, batch)
    interval = {"interval_seconds": chosen.checkpoint.interval_seconds}
    return resolved.model_copy(
        update={
            "training": resolved.training.model_copy(update=training),
            "evaluation": resolved.evaluation.model_copy(update={"every_steps": every}),
            "checkpoint": resolved.checkpoint.model_copy(update=interval),
        }
    )
