"""Which of a Pod's containers is ours and what it did, whatever others were put beside it. Pure. Called by seen.

A mesh, an agent or an admission webhook may add containers of any kind: beside ours, before it, or as native sidecars.
"""

from dataclasses import dataclass
from typing import Any, cast

from finetune_operator.lifecycle.ending_table import NEVER_STARTED

Raw = dict[str, Any]

STARTING = ("", "ContainerCreating", "PodInitializing")
"""Reasons of a container that waits its turn: nothing is wrong with it."""

RESTARTS = "CrashLoopBackOff"
"""Reason of a container that has ended and is about to be started again, in a Pod whose restartPolicy a webhook has changed."""

TERMINAL = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a container waits for; the name is empty where it is ours."""

    reason: str = ""
    message: str = ""
    container: str = ""


@dataclass(frozen=True, slots=True)
class Containers:
    """The statuses of a Pod's containers, and which of them is ours."""

    status: Raw
    name: str

    @property
    def own(self) -> Raw:
        """The status of our container, empty while it has none."""
        return next((each for each in self._regular if each.get("name") == self.name), {})

    @property
    def ended(self) -> Raw:
        """How our container ended, empty while it has not. One that would be started again has ended: our Pods ask for no restart."""
        ended = state(self.own, "terminated")
        return ended or (self._last if state(self.own, "waiting").get("reason") == RESTARTS else ended)

    @property
    def runs(self) -> bool:
        """Our container runs."""
        return bool(self.own.get("state", {}).get("running") is not None)

    @property
    def phase(self) -> str:
        """The Pod's phase as far as our container is concerned."""
        pods = str(self.status.get("phase", "Pending"))
        if self.ended:
            return "Failed" if self.ended.get("exitCode") else "Succeeded"
        if pods in TERMINAL:
            return pods
        if self.runs:
            return "Running"
        return "Pending" if self.own else pods

    @property
    def never_ran(self) -> bool:
        """The Pod has ended, and our container never ran."""
        if self.phase not in TERMINAL or self.runs:
            return False
        return not self.ended or self.ended.get("reason") in NEVER_STARTED

    @property
    def lingers(self) -> bool:
        """Our container has ended, and others run on: the Pod holds what it was given.

        A kubelet reports the end of the last container some seconds before it calls the Pod ended: such a Pod does not linger.
        """
        if not self.ended or self.status.get("phase") in TERMINAL:
            return False
        if not state(self.own, "terminated"):
            return True
        others = (each for each in (*self._initial, *self._regular) if each.get("name") != self.name)
        return any(not state(each, "terminated") for each in others)

    @property
    def waiting(self) -> Waiting:
        """What holds our container back: its own trouble, else that of another one."""
        if self.ended or self.runs:
            return Waiting()
        own = state(self.own, "waiting")
        if own.get("reason", "") not in STARTING:
            return told(own, "")
        for other in (*self._initial, *self._regular):
            theirs = state(other, "waiting")
            if theirs.get("reason", "") not in STARTING:
                return told(theirs, other["name"])
        return told(own, "")

    @property
    def culprit(self) -> str:
        """What another container did that kept ours from running; empty where none did."""
        for kind, others in (("init container", self._initial), ("container", self._regular)):
            for other in others:
                ended = state(other, "terminated")
                if other.get("name") != self.name and ended.get("exitCode"):
                    words = ended.get("message") or ended.get("reason") or ""
                    return f"{kind} {other['name']} exited with code {ended['exitCode']}{f': {words}' if words else ''}"
        return ""

    @property
    def _last(self) -> Raw:
        return cast("Raw", (self.own.get("lastState") or {}).get("terminated") or {})

    @property
    def _regular(self) -> list[Raw]:
        return cast("list[Raw]", self.status.get("containerStatuses") or [])

    @property
    def _initial(self) -> list[Raw]:
        return cast("list[Raw]", self.status.get("initContainerStatuses") or [])


def state(container: Raw, kind: str) -> Raw:
    """Return a container's state of a kind, empty where it is in another one."""
    return (container.get("state") or {}).get(kind) or {}


def told(waiting: Raw, container: str) -> Waiting:
    """Return what a container's status says about its waiting."""
    return Waiting(waiting.get("reason", ""), waiting.get("message", ""), container)
