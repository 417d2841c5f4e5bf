"""Fold what is seen of the running attempt's Pods into its entry: nodes, progress, GPU time, and how it ended.

An attempt has ended when one of its replicas has and none may still be computing. Called by record.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from finetune_contract import TRAINED, Outcome, Progress

from finetune_operator.api.reasons import AttemptOutcome
from finetune_operator.api.status import AttemptStatus, CheckpointStatus
from finetune_operator.lifecycle.conditions import is_suspending
from finetune_operator.lifecycle.ending_table import CLUSTERS_FAULTS, GAVE_UP
from finetune_operator.lifecycle.endings import Ending, ending, explanation, lost, vanished, verdict
from finetune_operator.lifecycle.money import (
    final_gpu_seconds,
    held_seconds,
    live_gpu_seconds,
    priced,
    waited_gpu_seconds,
    wasted_gpu_seconds,
)
from finetune_operator.lifecycle.observation import SeenPod
from finetune_operator.lifecycle.results import (
    PUBLISHING,
    artifact_statuses,
    done,
    evaluation_status,
    memory_status,
    progress_status,
    publishing,
)
from finetune_operator.lifecycle.retry import UNCOUNTED, counted, disrupted, moved, remedy, undisturbed, verdict_on
from finetune_operator.lifecycle.times import after, timestamp
from finetune_operator.lifecycle.view import View
from finetune_operator.manifests.names import trainer_pod_name

MOST_NODES = 128
"""Listed in status; a larger run's nodes are in its Pods."""


def record_attempt(view: View) -> View:
    """Return the view with the running attempt brought up to date; an ended one stays as it was recorded."""
    attempt = view.attempt
    if attempt is None:
        return view
    view = with_attempt(view, with_pods(view, attempt))
    view = record_publishing(record_progress(view))
    endings = endings_of(view)
    return record_end(view, explanation(endings)) if endings and is_over(view) else view


def with_attempt(view: View, attempt: AttemptStatus) -> View:
    """Return the view with the newest attempt's entry replaced."""
    return view.writing(attempts=[*(view.status.attempts or ())[:-1], attempt])


def held(view: View, attempt: AttemptStatus) -> float:
    """Return the seconds for which an attempt's Pods have held their GPUs, added up over the Pods."""
    pods = view.replicas(attempt.number)
    return held_seconds(pods, attempt, replicas=view.counted_replicas(attempt), until=view.now)


def with_pods(view: View, attempt: AttemptStatus) -> AttemptStatus:
    """Return the attempt with the nodes of its Pods and the GPU time so far."""
    pods, plan = view.replicas(attempt.number), view.plan
    nodes = list(dict.fromkeys([*attempt.node_names, *(pod.node_name for pod in pods if pod.node_name)]))
    seconds = held(view, attempt)
    grown = attempt.model_copy(
        update={
            "node_names": nodes[:MOST_NODES],
            "running_time": attempt.running_time or running_time(pods, plan.replicas),
            "gpu_seconds": max(attempt.gpu_seconds, live_gpu_seconds(seconds, plan)),
        }
    )
    return priced(grown, plan)


def running_time(pods: Iterable[SeenPod], replicas: int) -> str | None:
    """Return when the last replica was scheduled, None while one is not."""
    scheduled = [pod.scheduled_at for pod in pods if pod.scheduled_at is not None]
    return timestamp(max(scheduled)) if len(scheduled) == replicas else None


def record_progress(view: View) -> View:
    """Keep the newest report. One that says nothing new changes nothing, its time included."""
    progress, attempt = view.seen.progress, view.attempt
    if progress is None or attempt is None or not attempt.node_names:
        return view
    new, old = progress_status(progress, view.seen.progress_at or view.now), view.status.progress
    if old is not None and old.phase == PUBLISHING:  # there is no way back: the log is read now and then
        new = new.model_copy(update={"phase": PUBLISHING})
    if old is None or new.model_copy(update={"last_report_time": old.last_report_time}) != old:
        view = view.writing(progress=new)
    view = record_resumption(view, progress)
    attempt = view.attempt
    assert attempt is not None
    last_step = max(attempt.last_step, progress.step)
    view = with_attempt(view, attempt.model_copy(update={"last_step": last_step}))
    return record_checkpoint(view, step=progress.checkpoint_step or 0, uri="", at=view.seen.progress_at or view.now)


def record_publishing(view: View) -> View:
    """Note that only the upload is left, as soon as another replica than 0 has succeeded: its Pod may go before the upload is done."""
    attempt = view.attempt
    assert attempt is not None
    others = [pod for pod in view.replicas(attempt.number) if pod.finished and pod.replica > 0]
    steps = [pod.outcome.step for pod in others if pod.outcome and verdict(pod) == AttemptOutcome.SUCCEEDED]
    return view.writing(progress=publishing(view.status.progress, max(steps), view.now)) if steps else view


def record_resumption(view: View, progress: Progress) -> View:
    """Take over the step that the attempt really starts from: the store knows checkpoints that nobody reported.

    A newer one than we knew of was the work of an attempt that vanished, which therefore did not fail for nothing.
    """
    attempt, step = view.attempt, progress.first_step
    if attempt is None or step is None or step == attempt.first_step:
        return view
    resumed = attempt.model_copy(update={"first_step": step, "last_step": step, "checkpoint_step": step})
    at = timestamp(view.seen.progress_at or view.now)
    view = with_attempt(view, resumed).writing(checkpoint=CheckpointStatus(step=step, time=at))
    return undisturbed(view).writing(attempts_without_progress=0) if step > attempt.first_step else view


def record_checkpoint(view: View, *, step: int, uri: str, at: datetime) -> View:
    """Keep the newest complete checkpoint."""
    attempt, resolved = view.attempt, view.status.resolved
    if attempt is None or resolved is None or step <= attempt.checkpoint_step:
        return view
    folder = f"{resolved.checkpoint.destination}/attempt-{attempt.number}-step-{step}"
    view = with_attempt(view, attempt.model_copy(update={"checkpoint_step": step}))
    return view.writing(checkpoint=CheckpointStatus(step=step, uri=uri or folder, time=timestamp(at)))


def endings_of(view: View) -> tuple[Ending, ...]:
    """Return how each replica ended that is no longer computing. Replicas that never started do not count."""
    attempt = view.attempt
    assert attempt is not None
    spot = view.plan.pool.capacity == "spot"
    pods = {pod.replica: pod for pod in view.replicas(attempt.number)}
    found = [ending(pod, spot=spot) for pod in pods.values() if pod.finished]
    found += [lost(pod, spot=spot) for pod in pods.values() if view.is_lost(pod)]
    if attempt.node_names:
        missing = [index for index in range(view.plan.replicas) if index not in pods]
        job = view.job.metadata.name
        found += [vanished(trainer_pod_name(job, attempt.number, index), index) for index in missing]
    return tuple(found)


def is_over(view: View) -> bool:
    """Tell whether no Pod of the attempt may still be computing."""
    attempt = view.attempt
    assert attempt is not None
    return not any(view.is_live(pod) for pod in view.replicas(attempt.number))


def is_through(view: View) -> bool:
    """Tell whether replica 0 has said that it is done: it has published the result, or left it to be published."""
    attempt = view.last_attempt
    pods = view.replicas(attempt.number) if attempt is not None else ()
    return any(ending(pod, spot=False).outcome == AttemptOutcome.SUCCEEDED for pod in pods if _is_first(pod))


def _is_first(pod: SeenPod) -> bool:
    return pod.finished and pod.replica == 0


def record_end(view: View, why: Ending) -> View:
    """Close the attempt: outcome, last steps, final GPU time, waste, and when the next one may start."""
    attempt = view.attempt
    assert attempt is not None
    outcomes = tuple(pod.outcome for pod in view.replicas(attempt.number) if pod.outcome is not None)
    view = record_last_words(view, outcomes)
    if is_through(view):
        first = view.replicas(attempt.number)[0].outcome
        assert first is not None
        view = view.writing(progress=done(view.status.progress, first))
        assert view.attempt is not None
        left = first.reason == TRAINED and not first.artifacts
        view = with_attempt(view, view.attempt.model_copy(update={"handed_over": left}))
    attempt = view.attempt
    assert attempt is not None
    why = settled(view, why)
    ended = closed(view, attempt, why)
    waited = waited_gpu_seconds(view.replicas(ended.number), ended, view.plan)
    wasted = wasted_gpu_seconds(ended, waited=waited)
    without_progress = counted(ended, view.status.attempts_without_progress)
    view = with_attempt(view, ended).writing(
        wasted_gpu_seconds=view.status.wasted_gpu_seconds + wasted, attempts_without_progress=without_progress
    )
    view = record_fault(view, ended, why)
    return view.writing(retry_time=retry_time(view, ended))


def record_fault(view: View, ended: AttemptStatus, why: Ending) -> View:
    """Count an end that was the cluster's fault, if the attempt got nowhere; ends that say nothing about it leave the count."""
    if moved(ended):
        return undisturbed(view)
    if why.outcome in CLUSTERS_FAULTS:
        return disrupted(view, why, view.now)
    return view if why.outcome in UNCOUNTED else undisturbed(view)


def settled(view: View, why: Ending) -> Ending:
    """Return the end with what only the job knows: what is published or handed over is so, and a suspension is no failure."""
    if is_through(view):
        return replace(why, outcome=AttemptOutcome.SUCCEEDED, message="", node_name="")
    if is_suspending(view.status) and not why.is_users:
        return replace(why, outcome=AttemptOutcome.SUSPENDED, message=suspended_message(view, why), node_name="")
    absent = view.attempt
    if absent is not None and absent.failed_node and why.outcome in GAVE_UP:
        message = absent.message or why.message
        return replace(why, outcome=AttemptOutcome.NODE_REFUSED, message=message, node_name=absent.failed_node)
    if more := remedy(view.plan, why.outcome, view.seen.pools):
        return replace(why, message=f"{why.message}; {more}")
    return why


def suspended_message(view: View, why: Ending) -> str:
    """Say what a suspended attempt was doing: it had trained, or it had never started, and why not."""
    attempt = view.attempt
    if attempt is None or not attempt.message:
        return why.message
    return f"suspended before it started: {attempt.message}"


def closed(view: View, attempt: AttemptStatus, why: Ending) -> AttemptStatus:
    """Return the entry of an attempt that has ended."""
    pods, plan = view.replicas(attempt.number), view.in_short
    finished = [pod.finished_at for pod in pods if pod.finished_at is not None]
    seconds = held(view, attempt)
    ended = attempt.model_copy(
        update={
            "end_time": timestamp(max(finished, default=view.now)),
            "outcome": str(why.outcome),
            "message": why.message or None,
            "failed_node": why.blamed_node,
            "gpu_seconds": max(attempt.gpu_seconds, final_gpu_seconds(seconds, plan)),
        }
    )
    return priced(ended, plan)


def record_last_words(view: View, outcomes: tuple[Outcome, ...]) -> View:
    """Keep steps, checkpoint, memory, evaluation and artifacts of the replicas' outcomes."""
    for outcome in outcomes:
        attempt = view.attempt
        assert attempt is not None
        view = with_attempt(view, attempt.model_copy(update={"last_step": max(attempt.last_step, outcome.step)}))
        view = record_checkpoint(view, step=outcome.checkpoint_step or 0, uri=outcome.checkpoint_uri, at=view.now)
        view = record_published(view, outcome)
    fullest = max(outcomes, key=lambda outcome: outcome.peak_memory_gib or 0.0, default=None)
    if fullest is not None and fullest.peak_memory_gib is not None:
        view = view.writing(memory=memory_status(fullest, view.plan))
    return view


def record_published(view: View, outcome: Outcome) -> View:
    """Keep evaluation and artifacts of an outcome that has some."""
    if outcome.evaluation is not None:
        view = view.writing(evaluation=evaluation_status(outcome.evaluation))
    artifacts = artifact_statuses(outcome.artifacts)
    return view.writing(artifacts=artifacts, adapter_uri=artifacts[0].uri) if artifacts else view


def retry_time(view: View, ended: AttemptStatus) -> str | None:
    """Return when the next attempt may start; None for at once, or never."""
    verdict = verdict_on(view, ended)
    if not verdict.delay_seconds:
        return None
    return timestamp(after(ended.end_time or timestamp(view.now), verdict.delay_seconds))
