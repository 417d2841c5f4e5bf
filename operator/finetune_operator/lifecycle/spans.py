"""A job's way as spans of a trace: what one change of its status has ended. Called by reconcile; controller.tracing sends them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from finetune_operator.api.reasons import AttemptOutcome, Phase
from finetune_operator.api.status import AttemptStatus, FineTuneJob, FineTuneJobStatus
from finetune_operator.lifecycle.times import moment

BEFORE_PLAN = (Phase.PENDING, Phase.PREFLIGHT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One part of the way, which has ended."""

    name: str
    start: datetime
    end: datetime
    failed: str = ""
    """Why, where it failed."""
    whole: bool = False
    """The span of the job itself, in which all others lie."""
    attributes: Mapping[str, str | int] = field(default_factory=dict)


def spans(job: FineTuneJob, new: FineTuneJobStatus, now: datetime, publishing_since: datetime | None) -> list[Span]:
    """Return what ended between the status of a job and a newer one."""
    old = job.status
    created = moment(job.metadata.creation_timestamp)
    found: list[Span] = []
    if old.phase in BEFORE_PLAN and new.phase not in BEFORE_PLAN:
        failed = told(new) if new.phase == Phase.FAILED else ""
        found.append(
            Span(name="preflight", start=moment(old.start_time) if old.start_time else created, end=now, failed=failed)
        )
    if new.plan is not None and (old.plan is None or new.plan.summary != old.plan.summary):
        figures = {
            "plan": new.plan.summary,
            "pool": new.plan.pool.name,
            "estimate.cost_usd": new.plan.estimate.cost_usd,
        }
        found.append(Span(name="plan", start=now, end=now, attributes=figures))
    found += attempts(old, new)
    if publishing_since is not None and old.phase == Phase.PUBLISHING and new.phase != Phase.PUBLISHING:
        found.append(Span(name="publish", start=publishing_since, end=now))
    if new.completion_time and not old.completion_time:
        failed = told(new) if new.phase == Phase.FAILED else ""
        cost = {"cost_usd": new.cost.cost_usd} if new.cost else {}
        found.append(
            Span(name="job", start=created, end=moment(new.completion_time), failed=failed, whole=True, attributes=cost)
        )
    return found


def attempts(old: FineTuneJobStatus, new: FineTuneJobStatus) -> Iterator[Span]:
    """Yield the wait of each attempt that has begun to run, or was given up, and each attempt that has ended."""
    before = {each.number: each for each in old.attempts or ()}
    for each in new.attempts or ():
        known = before.get(each.number)
        waited = each.running_time or each.end_time
        if waited and not (known and (known.running_time or known.end_time)):
            yield Span(
                name="queue", start=moment(each.start_time), end=moment(waited), attributes={"attempt": each.number + 1}
            )
        if each.running_time and each.end_time and not (known and known.end_time):
            yield attempt_span(each)


def attempt_span(attempt: AttemptStatus) -> Span:
    """Return an attempt from the moment that it has its GPUs."""
    fine = attempt.outcome in (AttemptOutcome.SUCCEEDED, AttemptOutcome.SUSPENDED)
    return Span(
        name="attempt",
        start=moment(attempt.running_time or attempt.start_time),
        end=moment(attempt.end_time or attempt.start_time),
        failed="" if fine else attempt.message or "",
        attributes={
            "attempt": attempt.number + 1,
            "outcome": attempt.outcome or "",
            "steps": attempt.last_step - attempt.first_step,
            "gpu_seconds": attempt.gpu_seconds,
        },
    )


def told(status: FineTuneJobStatus) -> str:
    """Return why a job has failed."""
    return next((each.message for each in status.conditions if each.type == "Stalled" and each.status == "True"), "")
