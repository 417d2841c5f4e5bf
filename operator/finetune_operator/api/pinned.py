"""FineTunePlan, and the status of a job in two parts: what is written again and again, and what is pinned once.

Decisions are made on the whole. It is split where a status is written and joined where a job is read: by the controller and by
the commands. Operators before FineTunePlans wrote everything into status; such jobs are read as they are.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from finetune_contract.wire import camel

from finetune_operator.api.fields import StatusModel
from finetune_operator.api.plan import Plan, PlanSummary
from finetune_operator.api.preflight import PreflightStatus
from finetune_operator.api.reasons import Phase
from finetune_operator.api.resolved import ResolvedSpec
from finetune_operator.api.status import FineTuneJob, FineTuneJobStatus, ReportedJob, ReportedStatus

Raw = dict[str, Any]


class FineTunePlan(StatusModel):
    """What was decided about a job before anything was created. A plan that changes is a new object."""

    preflight: PreflightStatus | None = None
    """Findings of the preflight Pod."""
    resolved: ResolvedSpec | None = None
    """The spec with every default filled in."""
    plan: Plan | None = None
    """The layout chosen for the run."""


PARTS = ("preflight", "resolved", "plan")
"""The fields that are pinned: of a FineTunePlan, and of the status that decisions are made on."""

EXAMINED = {"preflight_generation": "generation", "spec_digest": "spec_digest"}
"""Fields of a status that say which spec preflight was started for -> those of its findings, which say so once they are there."""


def is_pinned(status: FineTuneJobStatus) -> bool:
    """Tell whether there is something to pin."""
    return any(getattr(status, part) is not None for part in PARTS)


def same_pinned(one: FineTuneJobStatus, other: FineTuneJobStatus) -> bool:
    """Tell whether two statuses are pinned alike."""
    return all(getattr(one, part) == getattr(other, part) for part in PARTS)


def content(status: FineTuneJobStatus) -> Raw:
    """Return what a FineTunePlan holds of a status."""
    return status.model_dump(mode="json", by_alias=True, exclude_none=True, include=set(PARTS))


def digest(uid: str, pinned: Mapping[str, Any]) -> str:
    """Return what tells the plans of all jobs apart: with the job's uid, since a new job of the same name has plans of its own."""
    text = json.dumps([uid, pinned], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def reported(status: FineTuneJobStatus, plan_name: str | None) -> Raw:
    """Return the status as it is written into a job whose FineTunePlan has this name."""
    if not is_pinned(status):
        return told(status) | summary_of(status.unread)
    ended = status.phase in (Phase.SUCCEEDED, Phase.FAILED)
    return told(named(status, plan_name)) | summary_of(status.plan, without_estimate=ended)


def named(status: FineTuneJobStatus, plan_name: str | None) -> FineTuneJobStatus:
    """Return the status as it is read once it was written: with the name of its FineTunePlan, and what cleaning up without it needs."""
    if not is_pinned(status):
        return status
    plan, resolved = status.plan, status.resolved
    in_gang = plan is not None and plan.replicas > 1
    told_of_plan = {
        "plan_name": plan_name,
        "queue_name": resolved.queue_name if resolved else None,
        "pod_group": plan.pool.pod.pod_group if plan and in_gang else None,
    }
    return status.model_copy(update=told_of_plan)


def summary_of(plan: Plan | PlanSummary | None, *, without_estimate: bool = False) -> Raw:
    """Return what status says about a plan. Once a job has ended, what it has cost says more than the estimate."""
    if plan is None:
        return {}
    summary = PlanSummary.model_validate(plan, from_attributes=True)
    left_out = {"estimate"} if without_estimate else None
    return {"plan": summary.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=left_out)}


def told(status: FineTuneJobStatus) -> Raw:
    """Return what is not pinned. What has its default says nothing and is left out, but for what every reader looks for."""
    found = status.preflight
    pinned = {mine for mine, theirs in EXAMINED.items() if found and getattr(found, theirs) == getattr(status, mine)}
    said = status.model_dump(
        mode="json", by_alias=True, exclude_none=True, exclude_defaults=True, exclude={*PARTS, "unread", *pinned}
    )
    conditions = [each.model_dump(mode="json", by_alias=True, exclude_none=True) for each in status.conditions]
    return said | {
        "observedGeneration": status.observed_generation,
        "phase": status.phase.value,
        "conditions": conditions,
    }


def joined(job: ReportedJob, pinned: FineTunePlan | None) -> FineTuneJob:
    """Return a job with what is pinned, or without it: then what its status says about the plan is kept as it is."""
    status = {name: getattr(job.status, name) for name in ReportedStatus.model_fields}
    if pinned is None:
        status |= {"plan": None, "unread": job.status.plan}
    else:
        status |= {part: getattr(pinned, part) for part in PARTS}
    if (found := status.get("preflight")) is not None:
        status |= {mine: status[mine] or getattr(found, theirs) for mine, theirs in EXAMINED.items()}
    # both were checked when they were read
    whole = FineTuneJobStatus.model_construct(**status)
    return FineTuneJob.model_construct(metadata=job.metadata, spec=job.spec, status=whole)


def plan_name_of(raw: Mapping[str, Any]) -> str:
    """Return the name of a job's FineTunePlan; empty where it has none, or an earlier operator wrote everything into status."""
    return str(part(raw, "status").get("planName") or "")


def join(job: Raw, plan: Mapping[str, Any]) -> Raw:
    """Return a job as the API server has it with the parts of its FineTunePlan in its status."""
    found = part(plan, "preflight")
    examined = {camel(mine): found[camel(theirs)] for mine, theirs in EXAMINED.items() if camel(theirs) in found}
    return job | {"status": examined | job["status"] | {name: plan[name] for name in PARTS if name in plan}}


def lacks_plan(job: Mapping[str, Any]) -> bool:
    """Tell whether a job has a FineTunePlan that it is not joined with."""
    return bool(plan_name_of(job)) and not any(part in job["status"] for part in PARTS[:2])


def with_plans(jobs: Iterable[Raw], plans: Iterable[Raw]) -> list[Raw]:
    """Return jobs joined with those of some FineTunePlans that are theirs; what is none of both, in a file, stays as it is."""
    known = {(_namespace_of(plan), part(plan, "metadata").get("name")): plan for plan in plans}
    return [join(job, known[key]) if (key := (_namespace_of(job), plan_name_of(job))) in known else job for job in jobs]


def _namespace_of(raw: Mapping[str, Any]) -> Any:
    return part(raw, "metadata").get("namespace")


def part(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a mapping of an object; an empty one where there is something else, as files may have it."""
    found = raw.get(name)
    return found if isinstance(found, Mapping) else {}
