"""How one Pod ended, and which Pod's end explains the attempt's, by the table of endings. Called by record.

The trainer's own words count most, then what Kubernetes says about the Pod, then the exit code. All of these are our own
container's: what the Pod's other containers did is only told where it kept ours from running.
"""

import re
import signal
from dataclasses import dataclass
from datetime import UTC, datetime

from finetune_contract import ExitCode, Outcome, shorten

from finetune_operator.api.reasons import AttemptOutcome, TerminalReason
from finetune_operator.lifecycle.ending_table import (
    BLAMES_NODE,
    CAUSES,
    CONSEQUENCES,
    DISRUPTIONS,
    EXIT_CODES,
    FULL_DISK,
    LOST_CONTAINERS,
    NOT_THE_CLOUD,
    NOT_THE_CLOUDS_REASONS,
    POD_REASONS,
    RECLAIMED,
    SHORT_NODE,
    TAKEN_AWAY,
    WRONG_PLATFORM,
)
from finetune_operator.lifecycle.observation import SeenPod
from finetune_operator.manifests.names import CONTAINERS

MESSAGE_CHARACTERS = 1000
SIGNALLED = 128
"""A process that a signal ended has this exit code plus the signal's number."""

CONTAINER = re.compile(r"Container (\S+) (?:was using|exceeded)")
"""How the kubelet names the containers that used too much."""

ATTEMPT_OUTCOMES = {str(outcome): outcome for outcome in AttemptOutcome}
TERMINAL_REASONS = {str(reason): reason for reason in TerminalReason}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How one replica ended."""

    replica: int
    outcome: AttemptOutcome | TerminalReason
    """A terminal reason where the user must change the job."""
    message: str
    node_name: str = ""
    at: datetime | None = None
    """None: nobody saw it end."""
    told_to_end: bool = False
    """Its Pod was being deleted: perhaps by us, because another replica had ended."""

    @property
    def is_users(self) -> bool:
        """The user must change the job."""
        return isinstance(self.outcome, TerminalReason)

    @property
    def blamed_node(self) -> str:
        """The node to avoid: after the first refusal, after two of the other ends."""
        return self.node_name if self.outcome in BLAMES_NODE else ""


def ending(pod: SeenPod, *, spot: bool) -> Ending:
    """Return how a finished Pod ended."""
    outcome = verdict(pod)
    authored = pod.disruption in NOT_THE_CLOUD or pod.pod_reason in NOT_THE_CLOUDS_REASONS
    if spot and outcome in RECLAIMED and not authored:
        outcome = AttemptOutcome.SPOT_RECLAIMED
    return Ending(
        replica=pod.replica, outcome=outcome, message=says(pod), node_name=pod.node_name, at=pod.finished_at,
        told_to_end=pod.deleting,
    )  # fmt: skip


def lost(pod: SeenPod, *, spot: bool) -> Ending:
    """Return how a Pod ended whose node does not answer, or which never had one and is kept by a finalizer."""
    if not pod.node_name:
        message = f"Pod {pod.name} was deleted before it had a node; {pod.held_by}"
        return Ending(replica=pod.replica, outcome=AttemptOutcome.NOT_SCHEDULED, message=message)
    outcome = AttemptOutcome.SPOT_RECLAIMED if spot else AttemptOutcome.NODE_LOST
    message = f"node {pod.node_name} is not responding, so Pod {pod.name} could not be stopped"
    return Ending(replica=pod.replica, outcome=outcome, message=message, node_name=pod.node_name)


def vanished(name: str, replica: int) -> Ending:
    """Return how a Pod ended that nobody saw end."""
    message = (
        f"Pod {name} was deleted before it reported a result; the next attempt starts from the latest stored checkpoint"
    )
    return Ending(replica=replica, outcome=AttemptOutcome.KILLED, message=message)


def verdict(pod: SeenPod) -> AttemptOutcome | TerminalReason:
    """Return how a finished Pod ended, from the most to the least telling sign.

    A trainer that was asked to end only knows that; who asked, and why, is what Kubernetes says. Its success stands: the
    kubelet says OOMKilled even if the kernel only ended a process that the trainer could do without.
    """
    own = own_words(pod.outcome, pod.exit_code) if pod.outcome is not None else None
    if own == AttemptOutcome.SUCCEEDED:
        return own
    if pod.terminated_reason == "OOMKilled":
        return AttemptOutcome.HOST_OUT_OF_MEMORY
    if used_too_much_disk(pod):
        return AttemptOutcome.STORAGE_FULL
    if own is not None:
        return DISRUPTIONS.get(pod.disruption, own) if own == AttemptOutcome.PREEMPTED else own
    if pod.disruption in DISRUPTIONS:
        return DISRUPTIONS[pod.disruption]
    if pod.never_ran:
        return POD_REASONS[pod.pod_reason] if pod.pod_reason in TAKEN_AWAY else AttemptOutcome.NODE_REFUSED
    if WRONG_PLATFORM in pod.termination_message:
        return AttemptOutcome.NODE_REFUSED
    if pod.pod_reason in POD_REASONS:
        return POD_REASONS[pod.pod_reason]
    if pod.terminated_reason in LOST_CONTAINERS:
        return AttemptOutcome.NODE_LOST
    return EXIT_CODES.get(pod.exit_code or 0, AttemptOutcome.TRAINER_ERROR)


def used_too_much_disk(pod: SeenPod) -> bool:
    """Tell whether a Pod was evicted for its own use of local disk: not for another container's, nor because others filled the node's."""
    message = pod.pod_message
    if pod.pod_reason != "Evicted" or not any(word in message for word in FULL_DISK):
        return False
    if named := CONTAINER.findall(message):
        return CONTAINERS[pod.role] in named
    return not message.startswith(SHORT_NODE)


def own_words(outcome: Outcome, exit_code: int | None) -> AttemptOutcome | TerminalReason | None:
    """Return the reason that the trainer gave; None where it names none that we know."""
    if outcome.outcome == "Succeeded":
        return AttemptOutcome.SUCCEEDED if exit_code == ExitCode.DONE else None
    return ATTEMPT_OUTCOMES.get(outcome.reason) or TERMINAL_REASONS.get(outcome.reason)


def says(pod: SeenPod) -> str:
    """Return the best sentence there is about a Pod's end."""
    if verdict(pod) == AttemptOutcome.HOST_OUT_OF_MEMORY:
        return f"Pod {pod.name} was killed because it reached its memory limit"
    if pod.pod_reason == "Evicted":
        return shorten(f"Pod {pod.name} was evicted: {pod.pod_message.strip().rstrip('.')}", MESSAGE_CHARACTERS)
    if pod.outcome is not None:
        return shorten(pod.outcome.message, MESSAGE_CHARACTERS)
    if pod.never_ran:
        return shorten(never_started(pod), MESSAGE_CHARACTERS)
    if WRONG_PLATFORM in pod.termination_message:
        return f"node {pod.node_name} cannot run the image of Pod {pod.name}: the image was built for another processor"
    if pod.terminated_reason in LOST_CONTAINERS and not pod.pod_reason:
        return f"node {pod.node_name} lost the container of Pod {pod.name}, as after a restart of the node or its container runtime"
    reason = "" if pod.terminated_reason in ("", "Error", "Completed") else pod.terminated_reason
    why = pod.pod_message or pod.pod_reason or pod.disruption or reason
    if not why and not is_signal(pod.exit_code):
        why = "it left no report of its result, see its log" if pod.exit_code == 0 else "see its log"
    parts = [part for part in (f"Pod {pod.name} {exit_words(pod.exit_code)}", why) if part]
    return shorten(": ".join(parts), MESSAGE_CHARACTERS)


def never_started(pod: SeenPod) -> str:
    """Say why our container never ran: another container, the kubelet's words, the runtime's words."""
    where = f" on node {pod.node_name}" if pod.node_name else ""
    own = ": ".join(part for part in (pod.terminated_reason, pod.termination_message) if part)
    kubelets = ": ".join(part for part in (pod.pod_reason, pod.pod_message.strip()) if part)
    why = pod.culprit or kubelets or pod.disruption or own or "no reason was given"
    return f"Pod {pod.name} did not start{where}: {why}"


def exit_words(code: int | None) -> str:
    """Return how a container exited; what it printed last is in its log, not here."""
    if code is None:
        return "stopped without an exit code"
    if is_signal(code):
        return f"was killed (exit code {code}, {signal.Signals(code - SIGNALLED).name})"
    return f"exited with code {code}"


def is_signal(code: int | None) -> bool:
    """Tell whether an exit code says that a signal ended the process."""
    return code is not None and code - SIGNALLED in set(signal.Signals)


def explanation(endings: tuple[Ending, ...]) -> Ending:
    """Return the end that explains the others: what the user must change, else a cause, else whatever came first."""
    return min(endings, key=_telling)


def _telling(one: Ending) -> tuple[int, datetime, int, bool, int]:
    unseen = one.at or datetime.max.replace(tzinfo=UTC)
    if one.is_users:
        return (0, unseen, 0, False, one.replica)
    if one.outcome in CAUSES:
        return (1 + CAUSES.index(AttemptOutcome(one.outcome)), unseen, 0, False, one.replica)
    last = one.outcome == AttemptOutcome.SUCCEEDED
    # Times have no fractions: in the second in which a replica fails, the others are killed for it.
    killed_for = one.told_to_end and one.outcome == AttemptOutcome.KILLED
    outcome = AttemptOutcome.TRAINER_ERROR if killed_for else AttemptOutcome(one.outcome)
    rank = len(CONSEQUENCES) if last else CONSEQUENCES.index(outcome)
    return (len(CAUSES) + 1 + last, unseen, rank, killed_for, one.replica)
