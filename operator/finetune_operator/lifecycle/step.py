"""What a policy returns, and the two ways in which every policy may end: wait, or fail. Read by decide."""

from dataclasses import dataclass, replace

from finetune_operator.api.reasons import Phase, TerminalReason
from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.lifecycle.attempt_record import closed, with_attempt
from finetune_operator.lifecycle.conditions import Outlook
from finetune_operator.lifecycle.endings import Ending
from finetune_operator.lifecycle.observation import Child, Manifest
from finetune_operator.lifecycle.times import timestamp
from finetune_operator.lifecycle.view import View, deletions


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a policy decided: the status without its conditions, the outlook that they are made from, and what to do."""

    status: FineTuneJobStatus
    outlook: Outlook | None
    """None: the job has ended, and what was said about it stays."""
    create: tuple[Manifest, ...] = ()
    ungate: tuple[str, ...] = ()
    delete: tuple[Child, ...] = ()
    delete_job: bool = False
    requeue_after: float | None = None

    def also_deleting(self, children: tuple[Child, ...]) -> "Step":
        """Return the step with more to delete; nothing is deleted twice."""
        more = tuple(child for child in children if child not in self.delete)
        return replace(self, delete=self.delete + more)


def say(view: View, phase: Phase, reason: str, message: str, *, settled: bool = False) -> Step:
    """Return a step that does nothing but say where the job stands."""
    outlook = Outlook(phase=phase, reason=str(reason), message=message, settled=settled)
    return Step(status=view.status, outlook=outlook)


def fail(view: View, reason: TerminalReason, message: str) -> Step:
    """Return the step that ends the job as failed and gives back whatever it holds."""
    attempt = view.attempt
    if attempt is not None:
        view = with_attempt(view, closed(view, attempt, Ending(replica=0, outcome=reason, message=message)))
    view = view.writing(completion_time=timestamp(view.now), retry_time=None)
    return replace(say(view, Phase.FAILED, reason, message, settled=True), delete=deletions(view.live_pods))
