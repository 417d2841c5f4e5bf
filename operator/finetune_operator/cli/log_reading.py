"""What a Pod of a job printed, from the Pod or, when that is gone, from beside the checkpoints. Called by logs."""

from dataclasses import dataclass

from finetune_contract import parse_progress

from finetune_operator.api.status import ReportedJob
from finetune_operator.cli.jobs import JobNotFound, Jobs
from finetune_operator.cli.kept_log import kept_export_log, kept_log, read_kept
from finetune_operator.cli.plans import whole
from finetune_operator.controller.seen import seen_pods
from finetune_operator.controller.stored import collection
from finetune_operator.errors import FinetuneError
from finetune_operator.lifecycle.observation import SeenPod
from finetune_operator.manifests.names import CONTAINERS, JOB_UID_LABEL

OUTCOME = '{"outcome":'
"""How the last line of a container begins, which the operator reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Whose log."""

    preflight: bool = False
    export: bool = False
    attempt: int | None = None
    """From 0; None: the newest."""
    replica: int = 0


def chosen(pods: tuple[SeenPod, ...], wanted: Wanted) -> SeenPod | None:
    """Return the newest preflight Pod, or the replica of the attempt."""
    if wanted.preflight:
        return max((pod for pod in pods if pod.role == "preflight"), key=lambda pod: pod.generation, default=None)
    if wanted.export:
        return max((pod for pod in pods if pod.role == "export"), key=lambda pod: pod.attempt, default=None)
    trainers = (pod for pod in pods if pod.role == "trainer" and pod.replica == wanted.replica)
    mine = (pod for pod in trainers if wanted.attempt in (None, pod.attempt))
    return max(mine, key=lambda pod: pod.attempt, default=None)


def attempt_of(job: ReportedJob, *, previous: bool, attempt: int) -> int | None:
    """Return which attempt is meant, from 0; None for the newest. Raises JobNotFound where there was none of it."""
    attempts = job.status.attempts or []
    started = len(attempts)
    number = started - 1 if previous else attempt
    if not previous and not attempt:
        return None
    if not 1 <= number <= started:
        had = "1 attempt" if started == 1 else f"{started} attempts"
        raise JobNotFound(
            f"{job.metadata.name} has had {had}: there is no {'earlier one' if previous else f'attempt {attempt}'}"
        )
    return attempts[number - 1].number


def nothing_to_show(job: ReportedJob, pods: tuple[SeenPod, ...], wanted: Wanted) -> str:
    """Say why there is no such log, and where to look instead."""
    where = f"{job.metadata.name} (phase {job.status.phase})"
    examined = not wanted.preflight and any(pod.role == "preflight" for pod in pods)
    instead = f": see `finetune logs {job.metadata.name} --preflight`" if examined else ""
    if wanted.preflight:
        return f"{where} has no preflight Pod, and preflight has left no log"
    if wanted.export:
        return f"{where} has no export Pod, and none has left a log"
    if not job.status.attempts:
        return f"{where} has not started a trainer{instead}"
    most = job.status.plan.replicas if job.status.plan else 1
    if wanted.replica >= most:
        return f"{where} has {most} replica{'s' if most > 1 else ''}, counted from 0, and no replica {wanted.replica}"
    return f"{where} has no Pod of replica {wanted.replica}, and it has left no log beside the checkpoints"


def shown(text: str, *, progress: bool) -> str:
    """Return the log, without progress lines unless they are wanted."""
    return "\n".join(each for each in text.splitlines() if progress or not for_the_operator(each))


def for_the_operator(line: str) -> bool:
    """Tell whether a line is a report to the operator: of progress, or the outcome at the end."""
    return parse_progress(line) is not None or line.startswith(OUTCOME)


def refuse_senseless(*, preflight: bool, export: bool, previous: bool, attempt: int | None, follow: bool) -> None:
    """Raise FinetuneError for options of which one would be ignored."""
    if preflight and export:
        raise FinetuneError("--preflight and --export each name a Pod: give one of them")
    if export and (previous or attempt is not None):
        raise FinetuneError("--export has no attempts: leave --previous and --attempt out")
    if previous and attempt is not None:
        raise FinetuneError("--previous and --attempt both name an attempt: give one of them")
    if preflight and (previous or attempt is not None):
        raise FinetuneError("--preflight has no attempts: leave --previous and --attempt out")
    if follow and (previous or attempt is not None):
        raise FinetuneError("--follow always prints the newest attempt: leave --previous and --attempt out")


async def print_log(jobs: Jobs, job: ReportedJob, wanted: Wanted, *, progress: bool, tail: int, claims: str) -> None:
    """Print a log as it is."""
    text = shown(await whole_log(jobs, job, wanted, claims=claims), progress=progress)
    if text:
        print("\n".join(text.splitlines()[-tail:]) if tail else text)


async def pods_of(jobs: Jobs, job: ReportedJob) -> tuple[SeenPod, ...]:
    """Return the job's Pods."""
    items, _ = await jobs.api.list(collection("Pod", jobs.namespace), f"{JOB_UID_LABEL}={job.metadata.uid}")
    return seen_pods(items)


async def whole_log(jobs: Jobs, job: ReportedJob, wanted: Wanted, *, claims: str) -> str:
    """Return a log. Raises JobNotFound where there is none."""
    pods = await pods_of(jobs, job)
    if (pod := chosen(pods, wanted)) is not None:
        answer = await jobs.api.get(log_path(jobs, pod), {"container": CONTAINERS[pod.role]})
        answer.check(200)
        return answer.text
    last = job.status.attempts[-1].number if job.status.attempts else None
    number = None if wanted.preflight else last if wanted.attempt is None else wanted.attempt
    if wanted.preflight:
        job = await whole(jobs, job.metadata.name)  # its FineTunePlan says which generation was examined
    if wanted.preflight or wanted.export or number is not None:
        place = kept_export_log(job) if wanted.export else kept_log(job, attempt=number, replica=wanted.replica)
        kept = await read_kept(place, jobs, claims=claims)
        if kept is not None:
            return kept
    raise JobNotFound(nothing_to_show(job, pods, wanted))


def log_path(jobs: Jobs, pod: SeenPod) -> str:
    """Return the address of a Pod's log."""
    return f"{collection('Pod', jobs.namespace)}/{pod.name}/log"
