"""One object as the store keeps it: who it is, and the parts that passes read, as JSON. Made by store and resync.

Parsed, an object takes several times the memory of its text, and thousands of finished jobs are looked at once an hour.
What nobody reads is dropped as it arrives: which fields a manager owns, and of a Pod nearly everything but its status.
"""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import orjson

from finetune_operator.api.group import (
    API_VERSION,
    JOB_KIND,
    JOB_PLURAL,
    PLAN_KIND,
    PLAN_PLURAL,
    POLICY_KIND,
    POLICY_PLURAL,
    POOL_KIND,
    POOL_PLURAL,
)
from finetune_operator.api.pinned import plan_name_of
from finetune_operator.manifests.names import JOB_NAME_LABEL

Raw = dict[str, Any]
Kind = Literal["FineTuneJob", "GPUPool", "FineTunePolicy", "Pod", "Service", "ResourceQuota", "LimitRange"]
QUOTA_KINDS: tuple[Kind, ...] = ("ResourceQuota", "LimitRange")
"""Without the right to read these the operator works on, and Pods that exceed a quota wait."""
POLICY_KINDS: tuple[Kind, ...] = ("FineTunePolicy",)
"""Where the API server does not serve these, as after an upgrade without the new CRDs, there is no policy that could be missed."""
REQUIRED_KINDS: tuple[Kind, ...] = ("FineTuneJob", "GPUPool", "Pod", "Service")
KINDS = (*REQUIRED_KINDS, *POLICY_KINDS, *QUOTA_KINDS)

PLURALS: dict[str, str] = {
    "FineTuneJob": JOB_PLURAL,
    "GPUPool": POOL_PLURAL,
    "FineTunePolicy": POLICY_PLURAL,
    "FineTunePlan": PLAN_PLURAL,
    "Pod": "pods",
    "Service": "services",
    "ResourceQuota": "resourcequotas",
    "LimitRange": "limitranges",
}
OURS = (JOB_KIND, POOL_KIND, POLICY_KIND, PLAN_KIND)
assert set(OURS) < set(PLURALS)

NEAR_BUDGET = Decimal("0.9")

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def collection(kind: str, namespace: str = "") -> str:
    """Return the path of a collection; without a namespace that of the whole cluster."""
    root = f"/apis/{API_VERSION}" if kind in OURS else "/api/v1"
    within = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{within}/{PLURALS[kind]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One object: identity, place in a family, and what passes over others ask about it without reading it all."""

    kind: Kind
    uid: str
    """metadata.uid: the identity; a name may be used again."""
    name: str
    namespace: str
    """Empty for GPUPools."""
    version: int
    """metadata.resourceVersion; the API server's are numbers that only grow."""
    owner_uid: str
    """uid of the controlling owner; empty without one."""
    family: str
    """`namespace/name` of the job that this is, or is a child of; empty for anything else."""
    text: str
    """JSON of what is kept."""
    phase: str = ""
    """status.phase; empty where there is none yet."""
    begun: bool = False
    """A job that has had an attempt."""
    plan_name: str = ""
    """The FineTunePlan of a job; empty where it has none, or an earlier operator wrote everything into its status."""
    pool: str = ""
    """The pool that a job is planned on."""
    gpus: int = 0
    """The GPUs of a job's plan."""
    running: bool = False
    """A job whose last attempt has not ended: it has its GPUs, or is about to."""
    price_usd: str = "0"
    """What a GPU of a job's plan costs an hour."""
    cost_usd: str = "0.00"
    """What a job has cost so far."""
    created: str = ""
    """metadata.creationTimestamp."""
    waits_since: str = ""
    """When the attempt of a job was started whose Pods are not all scheduled yet; empty where none waits."""
    plan_only: bool = False
    """A job that stops after its plan."""
    near_budget: bool = False
    """A job with an attempt in progress that has spent 90 % or more of its budget."""

    @property
    def raw(self) -> Raw:
        """What is kept of the object, parsed."""
        return orjson.loads(self.text)  # type: ignore[no-any-return]


def stored(kind: Kind, raw: Raw) -> Stored:
    """Return what is kept of an object that the API server sent."""
    meta, status = raw["metadata"], raw.get("status") or {}
    is_job = kind == "FineTuneJob"
    plan, attempts = (status.get("plan") or {}, status.get("attempts") or []) if is_job else ({}, [])
    attempt = attempt_in_progress(status) if is_job else {}
    return Stored(
        kind=kind,
        uid=str(meta["uid"]),
        name=str(meta["name"]),
        namespace=str(meta.get("namespace", "")),
        version=int(meta["resourceVersion"]),
        owner_uid=controller_uid(raw),
        family=family_of(kind, raw),
        text=orjson.dumps(KEPT[kind](raw)).decode(),
        phase=str(status.get("phase", "")),
        begun=bool(attempts),
        plan_name=plan_name_of(raw) if is_job else "",
        pool=str((plan.get("pool") or {}).get("name", "")),
        gpus=int(plan.get("replicas", 0)) * int(plan.get("gpusPerReplica", 0)),
        running=bool(attempt),
        price_usd=str((plan.get("pool") or {}).get("pricePerGPUHourUSD", "0")),
        cost_usd=str((status.get("cost") or {}).get("costUSD", "0.00")) if is_job else "0.00",
        created=str(meta.get("creationTimestamp", "")),
        waits_since="" if attempt.get("runningTime") else str(attempt.get("startTime", "")),
        plan_only=is_job and bool((raw.get("spec") or {}).get("planOnly")),
        near_budget=bool(attempt) and is_near_budget(raw),
    )


def attempt_in_progress(status: Raw) -> Raw:
    """Return the entry of a job's attempt that has not ended; empty where there is none."""
    newest: Raw = (status.get("attempts") or ({},))[-1]
    return {} if newest.get("outcome") else newest


def is_near_budget(raw: Raw) -> bool:
    """Tell whether a job has spent so much of its budget that its owner should hear of it."""
    budget = ((raw.get("spec") or {}).get("runPolicy") or {}).get("budget")
    spent = Decimal((raw["status"].get("cost") or {}).get("costUSD", "0"))
    return budget is not None and spent >= NEAR_BUDGET * Decimal(budget["maxCostUSD"])


def family_of(kind: Kind, raw: Raw) -> str:
    """Return `namespace/name` of the job that an object is, or is a child of; empty for anything else."""
    meta = raw["metadata"]
    owner = controlling_owner(raw)
    labelled = (meta.get("labels") or {}).get(JOB_NAME_LABEL, "") if kind in ("Pod", "Service") else ""
    name = meta["name"] if kind == "FineTuneJob" else owner["name"] if owner.get("kind") == JOB_KIND else labelled
    return f"{meta.get('namespace', '')}/{name}" if name else ""


def controlling_owner(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the reference to an object's controlling owner, empty without one."""
    owners = raw["metadata"].get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller")), {})


def controller_uid(raw: dict[str, Any]) -> str:
    """Return the uid of an object's controlling owner, empty without one."""
    return str(controlling_owner(raw).get("uid", ""))


def leaves_soon(raw: Raw, job_name: str) -> bool:
    """Tell whether an object is about to go: it is terminating, or the garbage collector is due for a former job's."""
    if "deletionTimestamp" in raw["metadata"]:
        return True
    owners = raw["metadata"].get("ownerReferences") or ()
    return any(owner.get("controller") and owner["kind"] == JOB_KIND and owner["name"] == job_name for owner in owners)


def whole(raw: Raw) -> Raw:
    """Keep all but what other programs wrote for themselves; of the managers of fields only the names."""
    meta = dict(raw["metadata"])
    if managers := {each.get("manager", "") for each in meta.pop("managedFields", None) or ()}:
        meta["managedFields"] = [{"manager": name} for name in sorted(managers)]
    if LAST_APPLIED in (meta.get("annotations") or {}):
        meta["annotations"] = {key: value for key, value in meta["annotations"].items() if key != LAST_APPLIED}
    return raw | {"metadata": meta}


def pod(raw: Raw) -> Raw:
    """Keep identity, scheduling and status of a Pod; what its containers run is in the job's plan."""
    spec, status = raw.get("spec") or {}, raw.get("status") or {}
    kept: Raw = {"metadata": identity(raw["metadata"]), "spec": picked(spec, ("nodeName", "schedulingGates"))}
    kept["spec"]["containers"] = [
        {"name": each["name"], "resources": picked(each.get("resources") or {}, ("limits",))}
        for each in spec.get("containers") or ()
    ]
    if "status" in raw:
        kept["status"] = picked(status, ("phase", "reason", "message", "conditions", "startTime"))
        for containers in ("containerStatuses", "initContainerStatuses"):
            if containers in status:
                kept["status"][containers] = [picked(each, ("name", "state")) for each in status[containers]]
    return kept


def service(raw: Raw) -> Raw:
    """Keep the identity of a Service."""
    return {"metadata": identity(raw["metadata"])}


def limits(kind: Kind, raw: Raw) -> Raw:
    """Keep what a quota or LimitRange allows. How much of it is used changes with every Pod and has no part in a plan."""
    return {
        "kind": kind,
        "metadata": picked(raw["metadata"], ("name", "namespace", "uid")),
        "spec": raw.get("spec") or {},
    }


def identity(meta: Raw) -> Raw:
    """Keep who an object is and whose."""
    names = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "labels")
    return picked(meta, (*names, "ownerReferences", "finalizers"))


def picked(value: Raw, keys: Iterable[str]) -> Raw:
    """Return some of the entries of a mapping."""
    return {key: value[key] for key in keys if key in value}


KEPT: dict[Kind, Callable[[Raw], Raw]] = {
    "FineTuneJob": whole,
    "GPUPool": whole,
    "FineTunePolicy": whole,
    "Pod": pod,
    "Service": service,
    "ResourceQuota": functools.partial(limits, "ResourceQuota"),
    "LimitRange": functools.partial(limits, "LimitRange"),
}
