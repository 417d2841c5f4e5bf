"""Our own copy of the objects we care about, fed by watches, by resync and by the answers to our own writes."""

from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from finetune_operator.controller.stored import KINDS, Kind, Stored, stored

TOMBSTONES = 10_000
"""Deleted uids that are remembered, so that a late answer does not bring an object back. 10,000 uids are about 1 MB."""

DEPARTED = 300
"""Deleted Pods that are remembered as they were last seen: more than two full nodes (110 Pods each), under 1 MB."""


@dataclass(slots=True)
class Store:
    """The newest known version of every object.

    * An object is replaced only by a newer resourceVersion: events may arrive twice, late and out of order.
    * A uid that was deleted never comes back.
    * The last state of a deleted Pod is kept for a while: how it ended may not have been recorded yet, least of all by a
      standby that leads only from now on.
    * Jobs and children are found by the name of the job: what a former job of that name left is seen too.
    """

    objects: dict[str, Stored] = field(default_factory=dict)
    rewinds: int = 0
    """How often what we know was forgotten so. A version from before may name something else by now."""
    _kinds: dict[Kind, dict[str, Stored]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    _families: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _deleted: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _dismissed: OrderedDict[str, None] = field(default_factory=OrderedDict)
    """uids of what we have wanted to delete ourselves."""
    _departed: deque[tuple[str, Stored]] = field(default_factory=lambda: deque(maxlen=DEPARTED))

    def put(self, kind: Kind, raw: dict[str, Any]) -> bool:
        """Take in an object as the API server sent it; tell whether it was news."""
        meta = raw["metadata"]
        return self.is_news(str(meta["uid"]), int(meta["resourceVersion"])) and self.take(stored(kind, raw))

    def is_news(self, uid: str, version: int) -> bool:
        """Tell whether this version of an object would be taken in."""
        old = self.objects.get(uid)
        return uid not in self._deleted and (old is None or old.version < version)

    def take(self, new: Stored) -> bool:
        """Take in an object; tell whether it was news."""
        if not self.is_news(new.uid, new.version):
            return False
        old = self.objects.get(new.uid)
        self.objects[new.uid] = self._kinds[new.kind][new.uid] = new
        if old is not None and old.family != new.family:
            self._leave(old)
        if new.family:
            self._families[new.family].add(new.uid)
        return True

    def drop(self, uid: str) -> bool:
        """Forget a deleted object; tell whether it was known."""
        remember(self._deleted, uid)
        old = self.objects.get(uid)
        if old is None:
            return False
        self._remove(old)
        if old.family and old.kind == "Pod":
            self._departed.append((old.family, old))
        return True

    def dismiss(self, uid: str) -> None:
        """Remember that we want to delete an object ourselves."""
        remember(self._dismissed, uid)

    def taken(self, family: str) -> tuple[Stored, ...]:
        """Return the Pods of a family that others have deleted not long ago, as they were last seen."""
        return tuple(each for each in self.departed(family) if each.uid not in self._dismissed)

    def rewind(self, kind: Kind) -> None:
        """Forget all objects of a kind and every deletion: the API server's store was put back to an earlier revision."""
        self._forget(self.of_kind(kind))
        self._deleted.clear()
        self.rewinds += 1

    def forget_namespace(self, namespace: str) -> None:
        """Forget all objects of a namespace that is not served for now. None of them is known to be deleted."""
        self._forget(each for each in list(self.objects.values()) if each.namespace == namespace)

    def _forget(self, some: Iterable[Stored]) -> None:
        for each in some:
            self._remove(each)

    def _remove(self, old: Stored) -> None:
        del self.objects[old.uid], self._kinds[old.kind][old.uid]
        if old.family:
            self._leave(old)

    def _leave(self, old: Stored) -> None:
        """Take an object out of its family: it was deleted, or somebody changed its label."""
        members = self._families.get(old.family, set())
        members.discard(old.uid)
        if not members:
            self._families.pop(old.family, None)

    def get(self, uid: str) -> Stored | None:
        """Return an object, None when it is not known."""
        return self.objects.get(uid)

    def of_kind(self, kind: Kind) -> tuple[Stored, ...]:
        """Return all objects of a kind."""
        return tuple(self._kinds[kind].values())

    def departed(self, family: str) -> tuple[Stored, ...]:
        """Return the Pods of a family that were deleted not long ago, as they were last seen."""
        return tuple(each for of_family, each in self._departed if of_family == family)

    def members(self, family: str, kind: Kind) -> tuple[Stored, ...]:
        """Return the job (kind FineTuneJob) or the children of a family, by name."""
        found = (self.objects[uid] for uid in self._families.get(family, ()))
        return tuple(sorted((each for each in found if each.kind == kind), key=lambda each: each.name))


def remember(uids: OrderedDict[str, None], uid: str) -> None:
    """Add a uid; the oldest are forgotten."""
    uids[uid] = None
    forget_oldest(uids, TOMBSTONES)


def forget_oldest(memory: OrderedDict[str, Any], most: int) -> None:
    """Keep so many entries, those that were added last."""
    while len(memory) > most:
        memory.popitem(last=False)
