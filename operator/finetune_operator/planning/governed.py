"""A job under its namespace's FineTunePolicy: what breaks a rule, and the plan within the limits.

Called by lifecycle in every pass until the first attempt, and by `finetune plan --policy`. Every message names the rule and the figure.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import get_args

from finetune_contract.wire import camel
from pydantic import BaseModel

from finetune_operator.api.data import Credentials
from finetune_operator.api.evaluation import MetricSpec
from finetune_operator.api.plan import Plan
from finetune_operator.api.policies import FineTunePolicy, PolicyLimits
from finetune_operator.api.pools import GPUPool
from finetune_operator.api.resolved import Method
from finetune_operator.api.spec import BudgetSpec, FineTuneJobSpec, PodMetadata
from finetune_operator.errors import DoesNotFit, JobError
from finetune_operator.planning.planner import PlannedRun
from finetune_operator.planning.speed.duration import hours

HUB = "hf://"
COMMIT = re.compile(r"[0-9a-f]{40}")
METHODS: tuple[Method, ...] = get_args(Method)
VIOLATION = "PolicyViolation"
FEWER_GPUS = {2**power for power in range(12)} | {3 * 2**power for power in range(10)}
"""Numbers of GPUs that layouts have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What the planner is asked with."""

    spec: FineTuneJobSpec
    pools: Sequence[GPUPool]
    methods: tuple[Method, ...]


Planner = Callable[[Offer], PlannedRun]
"""Returns the plan, or raises JobError."""


def violation(policy: FineTunePolicy, broken: Sequence[str]) -> JobError:
    """Return the error that says which rules a job breaks, and who can change them."""
    return JobError(VIOLATION, f"{'; '.join(broken)}: {policy.owner}")


def broken_rules(spec: FineTuneJobSpec, policy: FineTunePolicy) -> tuple[str, ...]:
    """Return every rule that a spec breaks by itself, in words."""
    checks = (_models, _places, _secrets, _required, _resources)
    return tuple(broken for check in checks for broken in check(spec, policy))


def _models(spec: FineTuneJobSpec, policy: FineTunePolicy) -> Iterator[str]:
    """Models and adapters: from the hub by name, from elsewhere by prefix."""
    allow = policy.spec.allow
    places = [("spec.model.source", spec.model.source)]
    if spec.lora.initial_adapter is not None:
        places.append(("spec.lora.initialAdapter", spec.lora.initial_adapter))
    for number, adapter in enumerate(spec.merge_of.adapters if spec.merge_of is not None else ()):
        places.append((f"spec.mergeOf.adapters[{number}].source", adapter.source))
    for field, place in places:
        if allow.models is not None and not _is_named(place, allow.models) and not _starts(place, allow.sources or ()):
            listed = [*allow.models, *(allow.sources or ())]
            yield f"{field} {place} is not an allowed model (allow.models: {', '.join(listed)})"
        elif allow.models is None and allow.sources is not None and not _starts(place, allow.sources):
            yield f"{field} {place} is not an allowed source (allow.sources: {', '.join(allow.sources)})"
    if spec.model.trust_remote_code and not allow.trust_remote_code:
        yield "spec.model.trustRemoteCode is true (allow.trustRemoteCode: false)"


def _is_named(place: str, patterns: Sequence[str]) -> bool:
    name = place.removeprefix(HUB)
    return place.startswith(HUB) and any(fnmatchcase(name, pattern) for pattern in patterns)


def _starts(place: str, prefixes: Sequence[str]) -> bool:
    """Tell whether a place lies below one of the prefixes. They end at a slash: s3://team-a is not s3://team-ab.

    The name of a repository in a registry stands for all its tags.
    """
    return any(
        f"{place}/".startswith(f"{prefix.rstrip('/')}/")
        or (prefix.endswith("://") and place.startswith(prefix))
        or (prefix.startswith("oci://") and prefix.count("/") > 2 and place.startswith((f"{prefix}:", f"{prefix}@")))
        for prefix in prefixes
    )


def _places(spec: FineTuneJobSpec, policy: FineTunePolicy) -> Iterator[str]:
    """Data is read from, and results are written to, what is listed."""
    allow = policy.spec.allow
    read = [(f"spec.datasets[{index}].source", data.source) for index, data in enumerate(spec.datasets)]
    if spec.evaluation.source is not None:
        read.append(("spec.evaluation.source.source", spec.evaluation.source.source))
    template = spec.chat.template_source
    if template is not None and not template.startswith("configmap://"):  # of this namespace, as the job itself
        read.append(("spec.chat.templateSource", template))
    written = [("spec.output.destination", spec.output.destination)]
    if spec.checkpoint.destination is not None:
        written.append(("spec.checkpoint.destination", spec.checkpoint.destination))
    for index, metric in enumerate(spec.evaluation.metrics or ()):
        read.extend((f"spec.evaluation.metrics[{index}].{name}.source", place) for name, place in _measured_on(metric))
        if metric.judge is not None:
            written.append((f"spec.evaluation.metrics[{index}].judge.endpoint", metric.judge.endpoint))
    for index, tracker in enumerate(spec.trackers):
        if tracker.server is not None:
            written.append((f"spec.trackers[{index}].uri", tracker.server))
    for places, prefixes, rule, what in (
        (read, allow.sources, "allow.sources", "source"),
        (written, allow.destinations, "allow.destinations", "destination"),
    ):
        for field, place in places:
            if prefixes is not None and not _starts(place, prefixes):
                yield f"{field} {place} is not an allowed {what} ({rule}: {', '.join(prefixes)})"


def _measured_on(metric: MetricSpec) -> Iterator[tuple[str, str]]:
    """Yield where a metric has data of its own, by field."""
    if metric.source is not None:
        yield "source", metric.source.source
    if metric.lm_eval is not None:
        yield "lmEval", metric.lm_eval.source


def _secrets(spec: FineTuneJobSpec, policy: FineTunePolicy) -> Iterator[str]:
    """Secrets by name: their labels could be read only with the right to read the Secrets themselves."""
    allowed = policy.spec.allow.secrets
    for field, name in secrets_of(spec, "spec") if allowed is not None else ():
        if not any(fnmatchcase(name, pattern) for pattern in allowed or ()):
            yield f"{field} names Secret {name}, which is not allowed (allow.secrets: {', '.join(allowed or ())})"


def secrets_of(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Yield every Secret that a spec names, however deep, with the field that names it."""
    if isinstance(value, Credentials):
        yield f"{path}.secretName", value.secret_name
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from secrets_of(item, f"{path}[{index}]")
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from secrets_of(getattr(value, name), f"{path}.{camel(name)}")


def _required(spec: FineTuneJobSpec, policy: FineTunePolicy) -> Iterator[str]:
    require = policy.spec.require
    pinned = COMMIT.fullmatch(spec.model.revision or "") is not None
    if require.pinned_revision and spec.model.source.startswith(HUB) and not pinned:
        yield "spec.model.revision must be a full commit id of 40 hexadecimal digits (require.pinnedRevision)"
    if require.budget and spec.merge_of is None and spec.run_policy.budget is None:
        yield "spec.runPolicy.budget must be set (require.budget)"
    if require.queue and spec.merge_of is None and not (spec.queue_name or policy.spec.defaults.queue_name):
        yield "spec.queueName must be set (require.queue)"


def _resources(spec: FineTuneJobSpec, policy: FineTunePolicy) -> Iterator[str]:
    allow, limits, asked = policy.spec.allow, policy.spec.limits, spec.resources
    if allow.methods is not None and spec.method not in ("auto", *allow.methods):
        yield f"spec.method {spec.method} is not an allowed method (allow.methods: {', '.join(allow.methods)})"
    others = [name for name in asked.pools or () if allow.pools is not None and name not in allow.pools]
    if others:
        yield f"spec.resources.pools has {', '.join(others)} (allow.pools: {', '.join(allow.pools or ())})"
    for rule, most in gpu_limits(limits):
        if most == 0 or (asked.gpus or 0) > most:
            needed = f"spec.resources.gpus is {asked.gpus}" if asked.gpus else "a job needs at least one GPU"
            yield f"{needed} ({rule}: {most})"


def gpu_limits(limits: PolicyLimits) -> tuple[tuple[str, int], ...]:
    """Return the limits on the GPUs of one job. More than all jobs may have it can never get either."""
    pairs = (("limits.gpusPerJob", limits.gpus_per_job), ("limits.gpus", limits.gpus))
    return tuple((rule, most) for rule, most in pairs if most is not None)


def governed(spec: FineTuneJobSpec, policy: FineTunePolicy) -> FineTuneJobSpec:
    """Return the spec with the policy's defaults, and no more than its limits."""
    limits, defaults, resources, run = policy.spec.limits, policy.spec.defaults, spec.resources, spec.run_policy
    gpus = [most for _, most in gpu_limits(limits)] + ([resources.max_gpus] if resources.max_gpus else [])
    capacity = defaults.capacity if resources.capacity == "any" and defaults.capacity else resources.capacity
    amounts = [text for text in (run.budget and run.budget.max_cost_usd, limits.cost_per_job_usd) if text]
    seconds = [each for each in (run.active_deadline_seconds, (limits.hours_per_job or 0) * 3600) if each]
    return spec.model_copy(
        update={
            "resources": resources.model_copy(update={"max_gpus": min(gpus, default=None), "capacity": capacity}),
            "queue_name": spec.queue_name or defaults.queue_name,
            "priority_class_name": spec.priority_class_name or defaults.priority_class_name,
            "pod_metadata": labelled(spec.pod_metadata, policy),
            "run_policy": run.model_copy(
                update={
                    "budget": BudgetSpec(max_cost_usd=min(amounts, key=float)) if amounts else None,
                    "active_deadline_seconds": min(seconds, default=None),
                }
            ),
        }
    )


def labelled(pod: PodMetadata, policy: FineTunePolicy) -> PodMetadata:
    """Return the labels and annotations of a job's Pods with the policy's, of which its own win."""
    defaults = policy.spec.defaults
    own_labels, own_annotations = {each.key for each in pod.labels}, {each.key for each in pod.annotations}
    return PodMetadata(
        labels=[*pod.labels, *(each for each in defaults.labels if each.key not in own_labels)],
        annotations=[*pod.annotations, *(each for each in defaults.annotations if each.key not in own_annotations)],
    )


def offered(pools: Sequence[GPUPool], policy: FineTunePolicy) -> tuple[GPUPool, ...]:
    """Return the pools that the policy allows. Money cannot be limited on a pool without a price."""
    allow, limits = policy.spec.allow, policy.spec.limits
    counts_money = limits.cost_per_job_usd is not None or limits.cost_per_month_usd is not None
    return tuple(
        pool
        for pool in pools
        if (allow.pools is None or pool.metadata.name in allow.pools)
        and (allow.gpu_types is None or pool.spec.gpu_type in allow.gpu_types)
        and (not counts_money or float(pool.spec.price_per_gpu_hour_usd) > 0)
    )


def governed_plan(spec: FineTuneJobSpec, pools: Sequence[GPUPool], policy: FineTunePolicy, plan: Planner) -> PlannedRun:
    """Return the plan within the policy. Raises JobError: PolicyViolation where only the policy forbids it."""
    if broken := broken_rules(spec, policy):
        raise violation(policy, broken)
    methods = tuple(policy.spec.allow.methods or METHODS)
    within = Offer(spec=governed(spec, policy), pools=offered(pools, policy), methods=methods)
    try:
        run = plan(within)
    except DoesNotFit:
        free = plan(Offer(spec=spec, pools=pools, methods=METHODS))  # raises what does not fit with any policy
        free = _smallest(free, within, plan)
        unroomy = [f"no pool that it allows has room for the job, which would run as {free.plan.summary} without it"]
        raise violation(policy, past_policy(free.plan, policy) or unroomy) from None
    if beyond := past_policy(run.plan, policy):
        raise violation(policy, beyond)
    return run


def _smallest(free: PlannedRun, within: Offer, plan: Planner) -> PlannedRun:
    """Return the plan with the fewest GPUs where only their number is too large: the limit need not be raised further."""
    used, most = free.plan.replicas * free.plan.gpus_per_replica, within.spec.resources.max_gpus
    for count in sorted(count for count in FEWER_GPUS if most is not None and most < count < used):
        resources = within.spec.resources.model_copy(update={"max_gpus": count})
        try:
            return plan(replace(within, spec=within.spec.model_copy(update={"resources": resources})))
        except JobError:
            continue
    return free


def past_policy(plan: Plan, policy: FineTunePolicy) -> list[str]:
    """Say which rules a plan breaks, in words."""
    allow, limits, pool = policy.spec.allow, policy.spec.limits, plan.pool
    gpus = plan.replicas * plan.gpus_per_replica
    found = [f"it would run as {plan.summary} ({rule}: {most})" for rule, most in gpu_limits(limits) if gpus > most]
    for what, used, rule, listed in (
        ("run on pool", pool.name, "allow.pools", allow.pools),
        ("run on", pool.gpu_type, "allow.gpuTypes", allow.gpu_types),
        ("be trained with", plan.method, "allow.methods", allow.methods),
    ):
        if listed is not None and used not in listed:
            found.append(f"it would {what} {used} ({rule}: {', '.join(listed)})")
    return found + _unpriced(plan, limits) + _too_long_or_dear(plan, limits)


def _unpriced(plan: Plan, limits: PolicyLimits) -> list[str]:
    counted = (("limits.costPerJobUSD", limits.cost_per_job_usd), ("limits.costPerMonthUSD", limits.cost_per_month_usd))
    rules = [rule for rule, most in counted if most is not None]
    if not rules or float(plan.pool.price_per_gpu_hour_usd) > 0:
        return []
    return [f"pool {plan.pool.name} has no price, so that its cost cannot be limited ({', '.join(rules)})"]


def _too_long_or_dear(plan: Plan, limits: PolicyLimits) -> list[str]:
    amounts = (("limits.costPerJobUSD", limits.cost_per_job_usd), ("limits.costPerMonthUSD", limits.cost_per_month_usd))
    found = [
        f"{plan.summary} is estimated at ${plan.estimate.cost_usd} ({rule}: {most})"
        for rule, most in amounts
        if most is not None and float(plan.estimate.cost_usd) > float(most)
    ]
    if limits.hours_per_job is not None and plan.estimate.seconds > limits.hours_per_job * 3600:
        found.append(
            f"{plan.summary} is estimated at {hours(plan.estimate.seconds)} (limits.hoursPerJob: {limits.hours_per_job})"
        )
    return found
