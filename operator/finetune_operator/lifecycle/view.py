"""One pass as the policies look at it: the job with its recorded status, its own Pods, and the time."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from finetune_operator.api.plan import Plan, PlanSummary
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.api.status import AttemptStatus, FineTuneJob, FineTuneJobStatus
from finetune_operator.lifecycle.observation import Child, Observation, SeenPod

DEAD_NODE_SECONDS = 30
"""A Pod that outlives its grace period by this much sits on a node that does not answer (a kubelet needs a second)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything that a policy may look at."""

    job: FineTuneJob
    """As it was read."""
    status: FineTuneJobStatus
    """With everything recorded that was observed."""
    seen: Observation
    now: datetime

    @property
    def spec(self) -> FineTuneJobSpec:
        """What the user wrote."""
        return self.job.spec

    @property
    def plan(self) -> Plan:
        """The pinned plan; only asked for once there is one."""
        assert self.status.plan is not None
        return self.status.plan

    @property
    def in_short(self) -> Plan | PlanSummary:
        """The layout and price of a planned job, whose plan may be lost."""
        known = self.status.in_short
        assert known is not None
        return known

    @property
    def pods(self) -> tuple[SeenPod, ...]:
        """The job's Pods. One of a former job of the same name is not ours to touch."""
        return tuple(pod for pod in self.seen.pods if pod.owner_uid == self.job.metadata.uid)

    @property
    def attempt(self) -> AttemptStatus | None:
        """The attempt that has not ended."""
        last = self.last_attempt
        return last if last is not None and last.outcome is None else None

    @property
    def last_attempt(self) -> AttemptStatus | None:
        """The newest attempt, ended or not."""
        return self.status.attempts[-1] if self.status.attempts else None

    @property
    def live_pods(self) -> tuple[SeenPod, ...]:
        """The Pods that may still be computing."""
        return tuple(pod for pod in self.pods if self.is_live(pod))

    def replicas(self, attempt: int) -> tuple[SeenPod, ...]:
        """Return the trainer Pods of an attempt, by replica index."""
        found = (pod for pod in self.pods if pod.role == "trainer" and pod.attempt == attempt)
        return tuple(sorted(found, key=lambda pod: pod.replica))

    def counted_replicas(self, attempt: AttemptStatus) -> int:
        """Return for how many Pods an attempt's time is counted.

        An attempt that is older than its job was restored from a backup: what its Pods did elsewhere is not known here.
        """
        if attempt.start_time < self.job.metadata.creation_timestamp:  # timestamps sort as they follow each other
            return len(self.replicas(attempt.number))
        return self.in_short.replicas

    def is_live(self, pod: SeenPod) -> bool:
        """Tell whether a Pod may still be computing, as far as anyone can tell."""
        return not pod.finished and not self.is_lost(pod)

    def is_lost(self, pod: SeenPod) -> bool:
        """Tell whether a Pod should be gone and nobody has ended it: its node does not answer, or it has none and a finalizer keeps it."""
        if pod.finished or pod.delete_by is None:
            return False
        if pod.kept:
            return True
        return self.now >= pod.delete_by + timedelta(seconds=DEAD_NODE_SECONDS)

    def seconds_until(self, moment: datetime) -> float:
        """Return the seconds to a moment, 0 where it has passed."""
        return max(0.0, (moment - self.now).total_seconds())

    def writing(self, **values: object) -> "View":
        """Return the view with fields of the status replaced."""
        return replace(self, status=self.status.model_copy(update=values))


def deletions(pods: tuple[SeenPod, ...]) -> tuple[Child, ...]:
    """Return what deletes Pods, each with its own grace period; those on their way out are left alone."""
    return tuple(Child(kind="Pod", name=pod.name, uid=pod.uid) for pod in pods if not pod.deleting)
