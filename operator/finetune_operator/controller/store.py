"""Our own copy of the objects we care about, fed by watches, by resync and by the answers to our own writes."""

from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from finetune_operator.api.group import API_VERSION, JOB_KIND, JOB_PLURAL, POOL_KIND, POOL_PLURAL
from finetune_operator.manifests.names import JOB_NAME_LABEL

Kind = Literal["FineTuneJob", "GPUPool", "Pod", "Service"]
KINDS: tuple[Kind, ...] = ("FineTuneJob", "GPUPool", "Pod", "Service")

PLURALS: dict[Kind, str] = {"FineTuneJob": JOB_PLURAL, "GPUPool": POOL_PLURAL, "Pod": "pods", "Service": "services"}
assert set(PLURALS) == {JOB_KIND, POOL_KIND, "Pod", "Service"}

TOMBSTONES = 10_000
"""Deleted uids that are remembered, so that a late answer does not bring an object back. 10,000 uids are about 1 MB."""

DEPARTED = 300
"""Deleted Pods that are remembered as they were last seen: more than two full nodes (110 Pods each), about 5 MB."""


def collection(kind: str, namespace: str = "") -> str:
    """Return the path of a collection; without a namespace that of the whole cluster."""
    root = f"/apis/{API_VERSION}" if kind in (JOB_KIND, POOL_KIND) else "/api/v1"
    within = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{within}/{PLURALS[kind]}"  # type: ignore[index]


@dataclass(frozen=True, slots=True)
class Stored:
    """One object as the API server sent it, without managedFields, and where it belongs."""

    kind: Kind
    raw: dict[str, Any]

    @property
    def uid(self) -> str:
        """metadata.uid: the identity; a name may be used again."""
        return str(self.raw["metadata"]["uid"])

    @property
    def name(self) -> str:
        """metadata.name."""
        return str(self.raw["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """metadata.namespace; empty for GPUPools."""
        return str(self.raw["metadata"].get("namespace", ""))

    @property
    def version(self) -> int:
        """metadata.resourceVersion; the API server's are numbers that only grow."""
        return int(self.raw["metadata"]["resourceVersion"])

    @property
    def owner_uid(self) -> str:
        """uid of the controlling owner; empty without one."""
        return controller_uid(self.raw)

    @property
    def family(self) -> str:
        """`namespace/name` of the job that this is, or is a child of; empty for anything else."""
        if self.kind == "FineTuneJob":
            return f"{self.namespace}/{self.name}"
        owner = controlling_owner(self.raw)
        labelled = (self.raw["metadata"].get("labels") or {}).get(JOB_NAME_LABEL, "")
        name = owner["name"] if owner.get("kind") == JOB_KIND else labelled
        return f"{self.namespace}/{name}" if name else ""


def controlling_owner(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the reference to an object's controlling owner, empty without one."""
    owners = raw["metadata"].get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller")), {})


def controller_uid(raw: dict[str, Any]) -> str:
    """Return the uid of an object's controlling owner, empty without one."""
    return str(controlling_owner(raw).get("uid", ""))


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
    _families: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _deleted: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _departed: deque[tuple[str, Stored]] = field(default_factory=lambda: deque(maxlen=DEPARTED))

    def put(self, kind: Kind, raw: dict[str, Any]) -> bool:
        """Take in an object; tell whether it was news."""
        raw["metadata"].pop("managedFields", None)
        new = Stored(kind, raw)
        old = self.objects.get(new.uid)
        if new.uid in self._deleted or (old is not None and old.version >= new.version):
            return False
        self.objects[new.uid] = new
        if old is not None and old.family != new.family:
            self._leave(old)
        if new.family:
            self._families[new.family].add(new.uid)
        return True

    def drop(self, uid: str) -> bool:
        """Forget a deleted object; tell whether it was known."""
        self._deleted[uid] = None
        while len(self._deleted) > TOMBSTONES:
            self._deleted.popitem(last=False)
        old = self.objects.pop(uid, None)
        if old is None:
            return False
        if old.family:
            self._leave(old)
            if old.kind == "Pod":
                self._departed.append((old.family, old))
        return True

    def rewind(self, kind: Kind) -> None:
        """Forget all objects of a kind and every deletion: the API server's store was put back to an earlier revision."""
        self._forget(self.of_kind(kind))
        self._deleted.clear()

    def forget_namespace(self, namespace: str) -> None:
        """Forget all objects of a namespace that is not served for now. None of them is known to be deleted."""
        self._forget(stored for stored in list(self.objects.values()) if stored.namespace == namespace)

    def _forget(self, some: Iterator[Stored]) -> None:
        for stored in some:
            del self.objects[stored.uid]
            if stored.family:
                self._leave(stored)

    def _leave(self, stored: Stored) -> None:
        """Take an object out of its family: it was deleted, or somebody changed its label."""
        members = self._families.get(stored.family, set())
        members.discard(stored.uid)
        if not members:
            self._families.pop(stored.family, None)

    def get(self, uid: str) -> Stored | None:
        """Return an object, None when it is not known."""
        return self.objects.get(uid)

    def of_kind(self, kind: Kind) -> Iterator[Stored]:
        """Return all objects of a kind."""
        return (stored for stored in list(self.objects.values()) if stored.kind == kind)

    def departed(self, family: str) -> tuple[Stored, ...]:
        """Return the Pods of a family that were deleted not long ago, as they were last seen."""
        return tuple(stored for of_family, stored in self._departed if of_family == family)

    def members(self, family: str, kind: Kind) -> tuple[Stored, ...]:
        """Return the job (kind FineTuneJob) or the children of a family, by name."""
        found = (self.objects[uid] for uid in self._families.get(family, ()))
        return tuple(sorted((stored for stored in found if stored.kind == kind), key=lambda stored: stored.name))
