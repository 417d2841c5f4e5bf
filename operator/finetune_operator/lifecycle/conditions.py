"""What the job says about itself: an Outlook becomes phase and conditions. Called by decide; policies read back only
whether the job has ended and whether it is being suspended."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from finetune_operator.api.evaluation import GateSpec
from finetune_operator.api.meta import Condition
from finetune_operator.api.reasons import ConditionType, Phase, ProgressReason, TerminalReason
from finetune_operator.api.status import FineTuneJob, FineTuneJobStatus, ReportedStatus
from finetune_operator.lifecycle.ending_table import MENDABLE
from finetune_operator.lifecycle.gate import findings
from finetune_operator.lifecycle.times import timestamp

Truth = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What a policy has to say: one word, one reason, one sentence."""

    phase: Phase
    reason: str
    message: str
    settled: bool = False
    """Nothing is on its way: all Pods run, or none is wanted. kstatus calls the job Current."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A condition before it has a time."""

    type: ConditionType
    status: Truth
    reason: str
    message: str = ""
    quiet: bool = False
    """Nothing is wrong or on its way: the condition is left out, as kstatus and batch/v1 Jobs have it."""


def find(status: ReportedStatus, kind: ConditionType) -> Condition | None:
    """Return a condition, None where it was never set."""
    for condition in status.conditions:
        if condition.type == kind:
            return condition
    return None


def has_ended(status: ReportedStatus) -> bool:
    """Tell whether the job has succeeded or failed for good."""
    condition = find(status, ConditionType.SUCCEEDED)
    return condition is not None and condition.status != "Unknown"


def has_succeeded(status: ReportedStatus) -> bool:
    """Tell whether the job has succeeded."""
    condition = find(status, ConditionType.SUCCEEDED)
    return condition is not None and condition.status == "True"


def is_suspending(status: FineTuneJobStatus) -> bool:
    """Tell whether the attempt's Pods are being taken down for a suspension."""
    condition = find(status, ConditionType.SUSPENDED)
    return condition is not None and condition.reason == ProgressReason.SUSPENDING


def set_conditions(
    status: FineTuneJobStatus, claims: Iterable[Claim], *, generation: int, now: datetime
) -> FineTuneJobStatus:
    """Return the status with some conditions set."""
    found: dict[str, Condition] = {condition.type: condition for condition in status.conditions}
    for claim in claims:
        old = found.get(claim.type)
        if not claim.quiet or (old is not None and says(old, claim)):
            found[claim.type] = condition_of(claim, old, generation=generation, now=now)
        elif old is not None:
            del found[claim.type]
    return status.model_copy(update={"conditions": list(found.values())})


def condition_of(claim: Claim, old: Condition | None, *, generation: int, now: datetime) -> Condition:
    """Return the condition that a claim becomes. Its transition time changes only with its status."""
    if old is not None and says(old, claim) and old.observed_generation in (None, generation):
        return old
    same = old is not None and old.status == claim.status
    return Condition(
        type=claim.type,
        status=claim.status,
        last_transition_time=old.last_transition_time if old is not None and same else timestamp(now),
        reason=claim.reason,
        message=claim.message,
    )


def says(condition: Condition, claim: Claim) -> bool:
    """Tell whether a condition says just this."""
    said = (condition.status, condition.reason, condition.message)
    return said == (claim.status, claim.reason, claim.message)


def stated(status: FineTuneJobStatus, outlook: Outlook, job: FineTuneJob, now: datetime) -> FineTuneJobStatus:
    """Return the status with phase, conditions and the generation that they are about."""
    generation = job.metadata.generation
    status = set_conditions(status, claims(status, outlook, job), generation=generation, now=now)
    return status.model_copy(update={"phase": outlook.phase, "observed_generation": generation})


def observed(status: FineTuneJobStatus, generation: int) -> FineTuneJobStatus:
    """Return the status of an ended job for a newer generation: what was said still holds."""
    conditions = [item.model_copy(update={"observed_generation": None}) for item in status.conditions]
    return status.model_copy(update={"conditions": conditions, "observed_generation": generation})


def claims(status: FineTuneJobStatus, outlook: Outlook, job: FineTuneJob) -> Iterable[Claim]:
    """Yield all conditions, in the order in which a job goes through them."""
    yield accepted(outlook)
    yield planned(status, outlook)
    yield pods_ready(outlook)
    yield suspended(status, outlook)
    if job.spec.evaluation.gate is not None:
        yield promoted(status, job.spec.evaluation.gate)
    reason, message, phase = outlook.reason, outlook.message, outlook.phase
    over = phase in (Phase.SUCCEEDED, Phase.FAILED)
    yield Claim(ConditionType.RECONCILING, "False" if outlook.settled else "True", reason, message, quiet=over)
    yield stalled(status, outlook)
    ends: dict[Phase, Truth] = {Phase.SUCCEEDED: "True", Phase.FAILED: "False"}
    yield Claim(ConditionType.SUCCEEDED, ends.get(phase, "Unknown"), reason, message)


def accepted(outlook: Outlook) -> Claim:
    """Say whether the spec breaks a rule; of one that keeps them all, nothing: `Planned` follows from it."""
    if outlook.reason == TerminalReason.INVALID_SPEC:
        return Claim(ConditionType.ACCEPTED, "False", outlook.reason, outlook.message)
    return Claim(ConditionType.ACCEPTED, "True", ProgressReason.ACCEPTED, quiet=True)


def planned(status: FineTuneJobStatus, outlook: Outlook) -> Claim:
    """Say whether there is a plan, and which."""
    if status.plan is not None:
        estimate = status.plan.estimate
        cost = f"estimated {estimate.gpu_hours} GPU-hours, ${estimate.cost_usd}"
        message = "; ".join((status.plan.summary, cost, *status.plan.quotas))
        return Claim(ConditionType.PLANNED, "True", ProgressReason.PLANNED, message)
    if status.export is not None:
        export = status.export
        message = f"a Pod of {export.cpus} CPUs and {export.memory_gib} GiB of memory; no GPU, $0.00"
        return Claim(ConditionType.PLANNED, "True", ProgressReason.PLANNED, message)
    if outlook.phase in (Phase.FAILED, Phase.SUCCEEDED):
        return Claim(ConditionType.PLANNED, "False", outlook.reason, outlook.message)
    return Claim(ConditionType.PLANNED, "Unknown", outlook.reason, outlook.message)


def pods_ready(outlook: Outlook) -> Claim:
    """Say whether all Pods of the attempt run."""
    kind = ConditionType.PODS_READY
    if outlook.phase in (Phase.SUCCEEDED, Phase.FAILED):
        return Claim(kind, "False", ProgressReason.FINISHED, quiet=True)
    running = outlook.phase in (Phase.TRAINING, Phase.PUBLISHING) and outlook.settled
    return Claim(kind, "True" if running else "False", outlook.reason, outlook.message)


def suspended(status: FineTuneJobStatus, outlook: Outlook) -> Claim:
    """Say whether the job waits for its user, and for what; of a job that never has, nothing."""
    kind = ConditionType.SUSPENDED
    if outlook.phase == Phase.SUSPENDED:
        return Claim(kind, "True", outlook.reason, outlook.message)
    if outlook.reason == ProgressReason.SUSPENDING:
        return Claim(kind, "False", outlook.reason, outlook.message)
    return Claim(kind, "False", ProgressReason.NOT_SUSPENDED, quiet=find(status, kind) is None)


def stalled(status: FineTuneJobStatus, outlook: Outlook) -> Claim:
    """Say whether the job has failed, and how it is tried again."""
    if outlook.phase != Phase.FAILED:
        return Claim(ConditionType.STALLED, "False", outlook.reason, quiet=True)
    if status.attempts and outlook.reason == TerminalReason.DOES_NOT_FIT:
        return Claim(ConditionType.STALLED, "True", outlook.reason, outlook.message)  # which says what to do
    if status.attempts:
        again = "to retry, delete the job and apply it again; it resumes from its checkpoint if there is one"
    elif status.export is not None:
        again = "to retry, delete the job and apply it again"
    elif outlook.reason == TerminalReason.DOES_NOT_FIT:
        again = "the job is planned again when its spec, a GPUPool or a quota of the namespace changes"
    elif outlook.reason == TerminalReason.POLICY_VIOLATION:
        again = "the operator checks again when the spec or the policy changes"
    elif outlook.reason in MENDABLE:
        again = "to retry, change the spec or repair the cause: for 24 hours preflight runs again by itself, at least every 10 minutes"
    else:
        again = "to retry, change the spec, or delete the job and apply it again"
    return Claim(ConditionType.STALLED, "True", outlook.reason, f"{outlook.message}; {again}")


def promoted(status: FineTuneJobStatus, gate: GateSpec) -> Claim:
    """Say whether the tuned model passed its gate."""
    kind, found = ConditionType.PROMOTED, findings(status.evaluation, gate)
    if found is None:
        return Claim(kind, "Unknown", ProgressReason.NOT_EVALUATED, "what the gate asks for has not been measured yet")
    passed = all(finding.passed for finding in found)
    message = ". ".join(finding.message for finding in found)
    reason = ProgressReason.GATE_PASSED if passed else ProgressReason.GATE_FAILED
    return Claim(kind, "True" if passed else "False", reason, message)
