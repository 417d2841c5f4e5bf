"""Attempts: pin the next one, create its children, take down what is left of one that failed, watch the rest."""

from dataclasses import replace

from finetune_operator.api.reasons import AttemptOutcome, Phase, ProgressReason, TerminalReason, WaitingReason
from finetune_operator.api.status import AttemptStatus
from finetune_operator.lifecycle.attempt_record import endings_of, with_attempt
from finetune_operator.lifecycle.endings import Ending
from finetune_operator.lifecycle.money import cost_status
from finetune_operator.lifecycle.observation import Child, Manifest
from finetune_operator.lifecycle.policies import gang
from finetune_operator.lifecycle.policies.stops import is_publishing, seconds_to_limit
from finetune_operator.lifecycle.queueing import (
    LOOK_SECONDS,
    held_in_queue,
    on_admitted_nodes,
    planned_children,
    queue_of,
)
from finetune_operator.lifecycle.quotas import refitted
from finetune_operator.lifecycle.replanning import enlarged, larger
from finetune_operator.lifecycle.results import restarted
from finetune_operator.lifecycle.retry import RetryVerdict, created_again, leaner, roomier, verdict_on
from finetune_operator.lifecycle.step import Step, fail, say
from finetune_operator.lifecycle.team import waits_for_its_turn
from finetune_operator.lifecycle.times import moment, timestamp
from finetune_operator.lifecycle.view import View, deletions
from finetune_operator.lifecycle.waiting import counts_finished, seconds_refused, standing_refusal, unsettled, waiting
from finetune_operator.manifests.children import children
from finetune_operator.manifests.names import service_name

MOST_ATTEMPTS = 10
"""Listed in status; older ones are added up."""


def retry_or_give_up(view: View) -> Step | None:
    """Follow up an attempt of which a replica has ended: take down the others, then try again or give up."""
    last = view.last_attempt
    if last is None or last.outcome == AttemptOutcome.SUCCEEDED:
        return None
    if last.outcome is None and gang.is_overdue(view, last):
        view = gang.let_go(view, last)
        return retry_or_give_up(view.writing(cost=cost_status(view.status)))
    if last.outcome is None:
        return take_down(view) if any(is_failure(view, end) for end in endings_of(view)) else None
    verdict = verdict_on(view, last)
    if not verdict.again:
        assert verdict.reason is not None
        return fail(view, verdict.reason, verdict.message)
    return next_attempt(view, last, verdict)


def is_failure(view: View, end: Ending) -> bool:
    """Tell whether the others cannot go on after this end. Replica 0 publishes alone: the others end before it."""
    if end.outcome == AttemptOutcome.SUCCEEDED:
        return False
    return end.replica == 0 or not is_publishing(view)


def take_down(view: View) -> Step:
    """Delete the other replicas with their grace: without the one that ended they cannot go on.

    One that has never started is why the others gave up: that is noted, since it cannot be told from a Pod that is gone.
    """
    view = noted_absence(view)
    message = "a replica stopped: the others save a checkpoint if they can, then stop too"
    step = say(view, Phase.TRAINING, ProgressReason.STARTING, message)
    return replace(step, delete=deletions(view.live_pods))


def noted_absence(view: View) -> View:
    """Return the view with what keeps a replica from starting in the attempt's entry; as it is where all have started."""
    attempt = view.attempt
    assert attempt is not None
    pods = (pod for pod in view.replicas(attempt.number) if view.is_live(pod) and not pod.deleting)
    pod = next((pod for pod in pods if pod.phase == "Pending" and pod.node_name), None)
    if pod is None or attempt.message:
        return view
    found = waiting((pod,), 1)
    what = f"Pod {pod.name} did not start" if found.reason == ProgressReason.STARTING else found.message
    message = f"{what} (on node {pod.node_name}); the other replicas gave up waiting for it"
    return with_attempt(view, attempt.model_copy(update={"message": message, "failed_node": pod.node_name}))


def next_attempt(view: View, ended: AttemptStatus, verdict: RetryVerdict) -> Step:
    """Launch the next attempt once the pause is over and no Pod of the last one computes any more."""
    what = f"attempt {ended.number + 1} stopped at step {ended.last_step} ({ended.outcome}): {ended.message}"
    if view.live_pods:
        step = say(view, Phase.PLANNED, WaitingReason.BACK_OFF, f"{what}; waiting for its Pods to terminate")
        return replace(step, delete=deletions(view.live_pods))
    at = view.status.retry_time
    if at is not None and view.now < moment(at):
        step = say(view, Phase.PLANNED, WaitingReason.BACK_OFF, f"{what}; attempt {ended.number + 2} starts at {at}")
        return replace(step, requeue_after=view.seconds_until(moment(at)))
    if verdict.leaner:
        view = relieved(view)
    return launch(view.writing(plan=roomier(view.plan, ended.outcome or "", view.seen.pools)))


def relieved(view: View) -> View:
    """Return the view with the leaner form of the layout, or where it has none with a larger layout."""
    if (plan := leaner(view.plan)) is not None:
        return view.writing(plan=plan)
    run = larger(view)
    return view if run is None else enlarged(view, run)


def launch(view: View) -> Step:
    """Pin the next attempt when it is the job's turn; its children are created only after the status is written."""
    if (turn := waits_for_its_turn(view)) is not None:
        return turn
    earlier, last, checkpoint = view.status.attempts or [], view.last_attempt, view.status.checkpoint
    step = checkpoint.step if checkpoint is not None else 0
    number = last.number + 1 if last is not None else newest_with_pods(view)
    attempt = AttemptStatus(
        number=number, start_time=timestamp(view.now), first_step=step, last_step=step, checkpoint_step=step
    )
    listed = [*earlier, attempt]
    dropped = listed[:-MOST_ATTEMPTS]
    archived = view.status.archived_gpu_seconds + sum(old.gpu_seconds for old in dropped)
    view = view.writing(
        attempts=listed[-MOST_ATTEMPTS:],
        archived_gpu_seconds=archived,
        retry_time=None,
        progress=restarted(view.status.progress),
    )
    return bring_up(view.writing(cost=cost_status(view.status)), attempt)


def newest_with_pods(view: View) -> int:
    """Return the attempt whose Pods are there although no status names one: the status was lost. 0 where there are none.

    It goes on, or ends as its Pods say: another one would train beside it.
    """
    return max((pod.attempt for pod in view.pods if pod.role == "trainer"), default=0)


def create_missing(view: View) -> Step | None:
    """Launch the first attempt; create what is missing of one that has not started."""
    attempt = view.attempt
    if attempt is None:
        return launch(view)
    return None if attempt.node_names else bring_up(view, attempt)


def bring_up(view: View, attempt: AttemptStatus) -> Step:
    """Create the children of an attempt that has not started, all or none."""
    view = refitted(view, attempt)
    missing = missing_children(view, attempt)
    if missing and (held := held_in_queue(view, attempt)) is not None:
        return held
    if not missing:
        step = gang.release(view, attempt) or starting(view, attempt)
        looks = (step.requeue_after, soonest(view, attempt))
        return replace(step, requeue_after=min((look for look in looks if look is not None), default=None))
    refusal = view.seen.refusal
    if refusal is not None and refusal.reason == "NameConflict":
        return fail(view, TerminalReason.NAME_CONFLICT, refusal.message)
    if (standing := standing_refusal(view)) is not None:
        step = say(view, Phase.PLANNED, standing.reason, standing.message)
        give_up = deletions(view.replicas(attempt.number))
        return replace(step, delete=give_up, requeue_after=seconds_refused(view, standing))
    if any(pod.deleting for pod in view.replicas(attempt.number)):
        return gang.start_over(view, attempt)
    taken = [pod for pod in view.seen.taken if pod.role == "trainer" and pod.attempt == attempt.number]
    if (later := created_again(view, taken)) is not None:
        step = say(view, Phase.PLANNED, WaitingReason.BACK_OFF, f"attempt {attempt.number + 1}: {later[1]}")
        return replace(step, requeue_after=view.seconds_until(later[0]))
    if refusal is not None:  # tried again: what was said holds until they are created
        return replace(say(view, Phase.PLANNED, refusal.reason, refusal.message), create=missing)
    message = (
        f"creating {view.plan.replicas} Pod{'s' if view.plan.replicas > 1 else ''} for attempt {attempt.number + 1}"
    )
    return replace(say(view, Phase.PLANNED, ProgressReason.STARTING, message), create=missing)


def missing_children(view: View, attempt: AttemptStatus) -> tuple[Manifest, ...]:
    """Return the children of an attempt that do not exist; they are only built where some do not."""
    pods = view.replicas(attempt.number)
    service = service_name(view.job.metadata.name, attempt.number)
    if len(pods) == view.plan.replicas and (view.plan.replicas == 1 or service in view.seen.services):
        return ()
    have = {pod.name for pod in pods} | set(view.seen.services)
    wanted = on_admitted_nodes(view, attempt, planned_children(view, attempt))
    return tuple(item for item in wanted if item["metadata"]["name"] not in have)


def lost_service(view: View, attempt: AttemptStatus) -> tuple[Manifest, ...]:
    """Return the Service of a running gang where somebody deleted it: without it a replica that restarts finds nobody."""
    service = service_name(view.job.metadata.name, attempt.number)
    if view.plan.replicas == 1 or service in view.seen.services:
        return ()
    return tuple(
        item
        for item in children(view.job, view.status, attempt.number, view.seen.settings.pods)
        if item["kind"] == "Service"
    )


def starting(view: View, attempt: AttemptStatus) -> Step:
    """Say what the Pods wait for."""
    found = waiting(view.replicas(attempt.number), view.plan.replicas)
    return say(view, Phase.PLANNED, found.reason, f"attempt {attempt.number + 1}: {found.message}")


def watch(view: View) -> Step:
    """Watch: say how many Pods run, and wake up for the next limit."""
    attempt = view.attempt
    assert attempt is not None
    pods, wanted, publishing = view.replicas(attempt.number), view.plan.replicas, is_publishing(view)
    up = sum(1 for pod in pods if pod.phase == "Running" or pod.finished)
    service = lost_service(view, attempt)
    if up < wanted and not publishing:
        step = replace(starting(view, attempt), create=service, ungate=gang.gated(pods))
        return replace(step, requeue_after=soonest(view, attempt))
    shaky = unsettled(pods)
    if shaky is not None:
        step = say(view, Phase.TRAINING, shaky.reason, f"attempt {attempt.number + 1}: {shaky.message}")
        return replace(step, create=service, requeue_after=soonest(view, attempt))
    phase = Phase.PUBLISHING if publishing else Phase.TRAINING
    reason = ProgressReason.PUBLISHING if publishing else ProgressReason.RUNNING
    message = f"attempt {attempt.number + 1} is running: {view.plan.summary}"
    step = say(view, phase, reason, message, settled=True)
    return replace(step, create=service, requeue_after=soonest(view, attempt))


def soonest(view: View, attempt: AttemptStatus) -> float | None:
    """Return when to look again at an attempt: at its limits, and at what Kueue says about it."""
    waits = (seconds_to_limit(view), gang.seconds_left(view, attempt), LOOK_SECONDS if queue_of(view) else None)
    return min((wait for wait in waits if wait is not None), default=None)


def lingering(view: View) -> tuple[Child, ...]:
    """Return the Pods whose container has ended, and was recorded, while others in them run on and hold what they were given."""
    attempt = view.attempt
    current = attempt.number if attempt is not None else None
    recorded = (pod for pod in view.pods if pod.role == "preflight" or pod.attempt != current)
    return deletions(tuple(pod for pod in recorded if pod.lingers))


def crowding(view: View) -> tuple[Child, ...]:
    """Return the finished Pods whose end is recorded, if a quota that counts them, too, has refused one: a job must not wait for itself."""
    refusal, attempt = view.seen.refusal, view.attempt
    if refusal is None or not counts_finished(refusal.message):
        return ()
    current = attempt.number if attempt is not None else None
    trainers = (pod for pod in view.pods if pod.role == "trainer" and pod.attempt != current)
    preflight = (pod for pod in view.pods if pod.role == "preflight" and view.status.preflight is not None)
    return deletions(tuple(pod for pod in (*trainers, *preflight) if pod.finished))


def unlisted(view: View) -> tuple[Child, ...]:
    """Return the finished Pods and the Services of attempts that are no longer listed: nobody looks for their logs."""
    if not view.status.attempts:
        return ()
    first, job = view.status.attempts[0].number, view.job.metadata.name
    old = tuple(pod for pod in view.pods if pod.role == "trainer" and pod.attempt < first and pod.finished)
    numbers = {name: name.removeprefix(f"{job}-") for name in view.seen.services}
    services = (name for name, number in numbers.items() if number.isdigit() and int(number) < first)
    return deletions(old) + tuple(Child(kind="Service", name=name) for name in services)
