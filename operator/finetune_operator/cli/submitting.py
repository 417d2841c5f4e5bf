"""What happens when a job is created, changed or deleted from the command line, and what is said about it."""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from finetune_operator.api.reasons import Phase, WaitingReason
from finetune_operator.api.status import ReportedJob
from finetune_operator.cli.differences import change_lines, whole
from finetune_operator.cli.job_text import ended, reason, reason_line
from finetune_operator.cli.jobs import JobExists, Jobs
from finetune_operator.cli.stored import stored_job
from finetune_operator.cli.unwatched import seen, start_words
from finetune_operator.errors import FinetuneError
from finetune_operator.lifecycle.money import spent_gpu_seconds, spent_usd

RAISED: Mapping[str, str] = {
    WaitingReason.BUDGET_EXCEEDED: "runPolicy.budget.maxCostUSD=AMOUNT",
    WaitingReason.DEADLINE_EXCEEDED: "runPolicy.activeDeadlineSeconds=SECONDS",
}
"""Limits of the job itself, by the reason with which they suspend it. Those of a policy are not the job's to raise."""


def next_lines(*commands: tuple[str, str]) -> list[str]:
    """Return commands to type next, each with what it does."""
    width = max(len(command) for command, _ in commands)
    return ["", "Next:", *(f"  {command:{width}}  # {about}" for command, about in commands)]


def where(jobs: Jobs, job: ReportedJob) -> str:
    """Return the namespace option that the next commands need; empty in the namespace of the kubeconfig."""
    return f" -n {job.metadata.namespace}" if jobs.chosen_namespace else ""


async def submit(jobs: Jobs, document: Mapping[str, Any]) -> list[str]:
    """Create a job and return what is said about it. Raises FinetuneError where another job has its name."""
    name = document["metadata"]["name"]
    sent = {key: value for key, value in document.items() if key != "status"}
    sent = {**sent, "metadata": _fresh(document["metadata"], jobs.namespace)}
    try:
        await jobs.create(sent)
    except JobExists:
        return await _existing(jobs, name, document["spec"])
    job = await seen(jobs, name)
    lines = [f"created {job.key} on {jobs.target.title}"]
    if not job.status.observed_generation:
        return [*lines, f"no operator has looked at it yet: {start_words(jobs.target)}"]
    if ended(job) is False:
        raise FinetuneError(f"{job.key} has been created, but {reason_line(job)}")
    option = where(jobs, job)
    return [
        *lines,
        reason_line(job),
        *next_lines(
            (f"finetune watch {name}{option}", "follow it until it finishes"),
            (f"finetune logs {name} -f{option}", "read what the trainer prints"),
        ),
    ]


def _fresh(metadata: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    """Return metadata without what a server wrote: a job that was read from a cluster can be submitted again."""
    kept = {key: metadata[key] for key in ("name", "labels", "annotations") if key in metadata}
    return {**kept, "namespace": namespace}


async def _existing(jobs: Jobs, name: str, spec: Mapping[str, Any]) -> list[str]:
    """Say how a job of the same name differs; an equal one is left as it is."""
    stored = await jobs.raw(name)
    changes = change_lines(whole(stored["spec"]), whole(spec))
    if not changes:
        job = stored_job(stored)
        watch = (f"finetune watch {name}{where(jobs, job)}", "follow it")
        return [f"{job.key} exists already and is the same", reason_line(job), *next_lines(watch)]
    raise FinetuneError(
        f"{jobs.namespace}/{name} exists and differs:\n  "
        + "\n  ".join(changes)
        + "\nsubmit it under another metadata.name and "
        f"output.destination, or delete the existing job first: finetune delete {name}"
    )


def refuse_finished(job: ReportedJob, verb: str) -> None:
    """Raise FinetuneError for a job that has ended."""
    if ended(job) is not None:
        raise FinetuneError(
            f"{job.key} cannot be {verb}: it has finished ({job.status.phase}). See `finetune get {job.metadata.name}`"
        )


async def suspend(jobs: Jobs, name: str) -> list[str]:
    """Ask for a checkpoint and the GPUs back."""
    job = await jobs.get(name)
    refuse_finished(job, "suspended")
    resume = (f"finetune resume {name}{where(jobs, job)}", "continue from the checkpoint")
    if job.spec.suspend:
        return [f"{job.key} is suspended already", *next_lines(resume)]
    await jobs.patch(name, {"suspend": True})
    began = job.status.phase in (Phase.TRAINING, Phase.PUBLISHING)
    effect = "it saves a checkpoint and releases its GPUs" if began else "it waits until it is resumed"
    return [f"suspended {job.key}: {effect}", *next_lines(resume)]


def limited_words(job: ReportedJob, namespace_option: str = "") -> str:
    """Say what suspended a job whose spec.suspend is false, and how it continues."""
    raised = RAISED.get(reason(job))
    remedy = (
        f"Raise the limit: finetune resume {job.metadata.name}{namespace_option} --set {raised}"
        if raised
        else "The job continues by itself when this changes"
    )
    return f"{job.key} was not suspended by spec.suspend. {reason_line(job)}. {remedy}"


def used_up_words(job: ReportedJob, policy: Mapping[str, Any]) -> str:
    """Say which limit of a runPolicy the job has used up, and what to set; empty where there is room. The API server judges the values."""
    status, plan = job.status, job.status.plan
    if plan is None or plan.estimate is None or not status.attempts:
        return ""
    most_usd, spent = amount((policy.get("budget") or {}).get("maxCostUSD")), spent_usd(status)
    if most_usd is not None and spent >= most_usd:
        return (
            f"it has cost ${spent:,.2f}, and its budget is ${most_usd} (the plan estimates ${plan.estimate.cost_usd} for the whole run). "
            f"Set a higher one: --set {RAISED[WaitingReason.BUDGET_EXCEEDED]}"
        )
    most_seconds = amount(policy.get("activeDeadlineSeconds"))
    ran = Decimal(spent_gpu_seconds(status)) / (plan.replicas * plan.gpus_per_replica)
    if most_seconds is not None and ran >= most_seconds:
        return (
            f"it has run for {ran:.0f} s, and its limit is {most_seconds} s (the plan estimates {plan.estimate.seconds} s for the whole "
            f"run). Set a higher one: --set {RAISED[WaitingReason.DEADLINE_EXCEEDED]}"
        )
    return ""


def amount(value: Any) -> Decimal | None:
    """Return a number of a spec; None where there is none or where it is not one."""
    try:
        return None if value is None else Decimal(str(value))
    except InvalidOperation:
        return None


async def resume(jobs: Jobs, name: str, changes: Mapping[str, Any]) -> list[str]:
    """Let a job continue, with raised limits where these suspended it."""
    job = await jobs.get(name)
    refuse_finished(job, "resumed")
    limited = job.status.phase is Phase.SUSPENDED and not job.spec.suspend
    if limited and not (changes and reason(job) in RAISED):
        raise FinetuneError(limited_words(job, where(jobs, job)))
    policy = changes.get("runPolicy") or job.spec.run_policy.model_dump(by_alias=True)
    if used_up := used_up_words(job, policy):
        raise FinetuneError(f"{job.key} would be suspended again immediately: {used_up}")
    watch = (f"finetune watch {name}{where(jobs, job)}", "follow it until it finishes")
    if not job.spec.suspend and not changes:
        return [f"{job.key} is not suspended: {reason_line(job)}", *next_lines(watch)]
    await jobs.patch(name, {**changes, "suspend": False})
    step = job.status.checkpoint.step if job.status.checkpoint else 0
    return [f"resumed {job.key}: {f'it continues from step {step}' if step else 'it starts'}", *next_lines(watch)]
