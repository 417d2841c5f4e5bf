"""Names, labels and annotations of the children: functions of identity, so that creating twice is the same as once."""

import re
from dataclasses import dataclass
from typing import Final, Literal

from finetune_operator.api.group import GROUP

JOB_NAME_LABEL: Final = f"{GROUP}/job-name"
JOB_UID_LABEL: Final = f"{GROUP}/job-uid"
ROLE_LABEL: Final = f"{GROUP}/role"
ATTEMPT_LABEL: Final = f"{GROUP}/attempt"
REPLICA_LABEL: Final = f"{GROUP}/replica"
POOL_LABEL: Final = f"{GROUP}/pool"
"""Of trainer Pods: tools that share out costs group by labels."""

COMPONENT_LABEL: Final = "app.kubernetes.io/component"
GENERATION_LABEL: Final = f"{GROUP}/generation"

CREATED_BY_ANNOTATION: Final = f"{GROUP}/created-by"
"""Of a job: the user whom the API server saw create it, where the chart's createdBy is enabled. Read only by commands."""

RUN_ANNOTATION: Final = f"{GROUP}/run"
"""Holds run.json, mounted into the Pod."""

GANG_GATE: Final = f"{GROUP}/gang"
"""Scheduling gate of the Pods of a run on several nodes: lifted when all of them exist."""

MANAGED_BY: Final = "finetune-operator"

Role = Literal["preflight", "trainer", "export"]

PREFLIGHT_CONTAINER: Final = "preflight"
TRAINER_CONTAINER: Final = "trainer"
EXPORT_CONTAINER: Final = "export"


def preflight_pod_name(job: str, generation: int) -> str:
    """Return the name of the Pod that examines one generation of the spec."""
    return f"{job}-preflight-{generation}"


def trainer_pod_name(job: str, attempt: int, replica: int) -> str:
    """Return the name of one replica. It doubles as the idempotency key: a second create is a no-op."""
    return f"{job}-{attempt}-{replica}"


def export_pod_name(job: str, number: int) -> str:
    """Return the name of a Pod that exports the published result."""
    return f"{job}-export-{number}"


def service_name(job: str, attempt: int) -> str:
    """Return the name of the headless Service through which the replicas of an attempt find each other."""
    return f"{job}-{attempt}"


def plan_name(job: str, digest: str) -> str:
    """Return the name of a FineTunePlan with content of this digest."""
    return f"{job}-{digest[:8]}"


CONTAINERS: Final[dict[Role, str]] = {
    "preflight": PREFLIGHT_CONTAINER,
    "trainer": TRAINER_CONTAINER,
    "export": EXPORT_CONTAINER,
}
"""The container of each role that is ours; a Pod may hold others, which somebody else put there."""

POD_NAME = re.compile(r"preflight-(?P<generation>\d+)|export-(?P<export>\d+)|(?P<attempt>\d+)-(?P<replica>\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class PodIdentity:
    """Which of a job's Pods a Pod is."""

    role: Role
    generation: int = 0
    attempt: int = 0
    """Of an export Pod: its number."""
    replica: int = 0


def pod_identity(job: str, pod: str) -> PodIdentity | None:
    """Return which of a job's Pods has a name; None for a copy under another name. Labels do not count: anybody may change them."""
    found = POD_NAME.fullmatch(pod.removeprefix(f"{job}-")) if pod.startswith(f"{job}-") else None
    if found is None:
        return None
    numbers = {name: int(value) for name, value in found.groupdict().items() if value is not None}
    if "export" in numbers:
        return PodIdentity(role="export", attempt=numbers["export"])
    return PodIdentity(role="preflight" if "generation" in numbers else "trainer", **numbers)
