"""A job in words: what get, watch, wait and logs print. Pure."""

from collections.abc import Sequence
from datetime import datetime

from finetune_operator.api.meta import Condition
from finetune_operator.api.published import ArtifactStatus, MemoryStatus, MetricStatus
from finetune_operator.api.reasons import ConditionType, Phase
from finetune_operator.api.status import AttemptStatus, ProgressStatus, ReportedJob, ReportedStatus

COLUMNS = ("NAME", "PHASE", "REASON", "MODEL", "PLAN", "PROGRESS", "LOSS", "COST", "AGE")
PASSED = {"True": "passed", "False": "not passed", "Unknown": "not measured"}
"""Status of the condition Promoted -> word."""

LEAST_PADDING = 0.005
"""Less rounds to 0 %, which is not worth a word."""


def condition(status: ReportedStatus, kind: ConditionType) -> Condition | None:
    """Return the condition of a type, None before the operator has set it."""
    return next((each for each in status.conditions if each.type == kind), None)


def ended(job: ReportedJob) -> bool | None:
    """Tell how the job ended: True well, False badly, None not yet."""
    succeeded = condition(job.status, ConditionType.SUCCEEDED)
    if succeeded is None or succeeded.status == "Unknown":
        return None
    about = job.status.observed_generation if succeeded.observed_generation is None else succeeded.observed_generation
    if about < job.metadata.generation:
        return None
    return succeeded.status == "True"


def reason(job: ReportedJob) -> str:
    """Return the reason that reason_line gives; empty where it says no more than the phase."""
    found = told(job)
    return found.reason if found is not None and found.reason not in (str(job.status.phase), "Running") else ""


def told(job: ReportedJob) -> Condition | None:
    """Return the condition that says where the job is and why; None before there is one."""
    for kind in (ConditionType.SUCCEEDED, ConditionType.SUSPENDED, ConditionType.ACCEPTED, ConditionType.RECONCILING):
        found = condition(job.status, kind)
        if found is not None and found.message and (found.status == "False") == (kind is ConditionType.ACCEPTED):
            return found
    last = condition(job.status, ConditionType.SUCCEEDED)
    return last if last is not None and last.message else None


def model_name(source: str) -> str:
    """Return the name of a model without what most of them begin with."""
    return source.removeprefix("hf://").removeprefix("file://")


def reason_line(job: ReportedJob) -> str:
    """Return one line that says where the job is and why."""
    found = told(job)
    words = (found.reason, found.message) if found is not None else ()
    return ": ".join(dict.fromkeys((str(job.status.phase), *words)))


def duration_text(seconds: float) -> str:
    """Return a duration in its two largest units: 45s, 12m30s, 3h05m, 2d4h."""
    whole = max(0, int(seconds))
    days, hours, minutes = whole // 86400, whole % 86400 // 3600, whole % 3600 // 60
    if days:
        return f"{days}d{hours}h"
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{whole % 60:02d}s" if minutes else f"{whole}s"


def progress_text(status: ReportedStatus) -> str:
    """Return how far the training is."""
    progress = status.progress
    return f"{progress.percent}% ({progress.step}/{progress.total_steps})" if progress else ""


def speed_text(progress: ProgressStatus) -> str:
    """Return tokens per second, the share of the GPUs' peak that they use, and the share of padding, as far as each is known."""
    used, padding = progress.model_flop_utilisation, progress.padding_share
    parts = [f"{float(progress.tokens_per_second or 0):,.0f} tokens/s"]
    parts += [f"{100 * float(used):.0f} % MFU"] if used else []
    parts += [f"{100 * float(padding):.0f} % padding"] if padding and float(padding) >= LEAST_PADDING else []
    return ", ".join(parts)


def cost_text(status: ReportedStatus) -> str:
    """Return the money spent, or before the run the estimate."""
    if status.cost is not None and status.attempts:
        return f"${status.cost.cost_usd}"
    return f"~${status.plan.estimate.cost_usd}" if status.plan and status.plan.estimate else ""


def plan_text(job: ReportedJob) -> str:
    """Return what the job does, in one phrase: its layout, or how it merges adapters. Empty until it is planned."""
    if (merge := job.spec.merge_of) is not None:
        return f"merges {len(merge.adapters)} adapters by {merge.method}"
    return job.status.plan.summary if job.status.plan else ""


def row(job: ReportedJob, now: datetime) -> tuple[str, ...]:
    """Return the job as a row of COLUMNS."""
    status = job.status
    born = datetime.fromisoformat(job.metadata.creation_timestamp)
    return (
        job.metadata.name,
        str(status.phase),
        reason(job),
        model_name(job.spec.model.source),
        plan_text(job),
        progress_text(status),
        (status.progress.loss or "") if status.progress else "",
        cost_text(status),
        duration_text((now - born).total_seconds()),
    )


def line(job: ReportedJob, *, with_reason: bool = True) -> str:
    """Return one plain line about a job in progress."""
    status, parts = job.status, [str(job.status.phase)]
    if status.progress and status.phase in (Phase.TRAINING, Phase.PUBLISHING):
        progress = status.progress
        parts.append(progress_text(status))
        parts += [f"loss {progress.loss}"] if progress.loss else []
        parts += [f"eval loss {progress.eval_loss}"] if progress.eval_loss else []
        parts += [speed_text(progress)] if progress.tokens_per_second else []
        parts += [f"{duration_text(progress.seconds_remaining)} left"] if progress.seconds_remaining is not None else []
    elif status.plan and status.phase is Phase.PLANNED:
        parts.append(status.plan.summary)
    if cost := cost_text(status):
        parts.append(cost)
    said = reason_line(job).partition(": ")[2] if with_reason else ""
    return "  ".join([*parts, said] if said else parts)


def condition_lines(conditions: Sequence[Condition]) -> list[str]:
    """Return a line per condition. A message stands once, at the first condition that has it."""
    told = [each.message for each in conditions]
    return [
        f"  {each.type:<12} {each.status:<8} {each.reason:<20} {each.message if told.index(each.message) == index else ''}".rstrip()
        for index, each in enumerate(conditions)
    ]


def attempt_line(attempt: AttemptStatus) -> str:
    """Return how an attempt ended, or whether it has its GPUs yet, with what it did and cost."""
    how = attempt.outcome or ("running" if attempt.running_time else "waiting")
    steps = f"steps {attempt.first_step}-{attempt.last_step}"
    held = f"{attempt.gpu_seconds} GPU-seconds  ${attempt.cost_usd}"
    return f"  {attempt.number + 1:<4} {how:<20} {steps}  {held}  {attempt.message or ''}".rstrip()


def memory_text(memory: MemoryStatus) -> str:
    """Return what the plan said about the fullest GPU and what the trainer saw."""
    planned = float(memory.predicted_gib)
    share = f" ({100 * float(memory.measured_gib) / planned:.0f} % of the plan)" if planned else ""
    reserved = f", {memory.reserved_gib} GiB reserved" if memory.reserved_gib else ""
    reserved += f", {memory.loading_gib} GiB while loading" if memory.loading_gib else ""
    return f"{memory.predicted_gib} GiB per GPU planned, {memory.measured_gib} GiB measured{share}{reserved}"


def metric_lines(metric: MetricStatus) -> list[str]:
    """Return both models' figures with the interval of the tuned one, what they say, and what to know about them."""
    tuned = f"{metric.tuned} ({metric.tuned_low} to {metric.tuned_high})"
    went = f"{metric.base} before, {tuned} after" if metric.base else tuned
    said = f"{metric.name} {went} on {metric.examples} rows{f': {metric.verdict}' if metric.verdict else ''}"
    return [said, *([f"{metric.name}: {metric.note}"] if metric.note else [])]


def gate_text(job: ReportedJob) -> str:
    """Return whether the tuned model passed its gate, and by which figures; empty without a gate."""
    found = condition(job.status, ConditionType.PROMOTED)
    if found is None:
        return ""
    return f"{PASSED[found.status]}: {found.message}"


def exported(status: ReportedStatus) -> list[ArtifactStatus]:
    """Return the forms that were made of the result."""
    return [one for one in status.artifacts if one.kind not in ("adapter", "model")]


def export_lines(status: ReportedStatus) -> list[str]:
    """Return where each form of the result is, and what it was compared with."""
    return [f"{one.kind} at {one.uri}{f' ({one.checked})' if one.checked else ''}" for one in exported(status)]
