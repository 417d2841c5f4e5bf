"""Names, labels and annotations of the children: functions of identity, so that creating twice is the same as once."""

from typing import Final

from finetune_operator.api.group import GROUP

JOB_NAME_LABEL: Final = f"{GROUP}/job-name"
JOB_UID_LABEL: Final = f"{GROUP}/job-uid"
ROLE_LABEL: Final = f"{GROUP}/role"
ATTEMPT_LABEL: Final = f"{GROUP}/attempt"
REPLICA_LABEL: Final = f"{GROUP}/replica"
GENERATION_LABEL: Final = f"{GROUP}/generation"

RUN_ANNOTATION: Final = f"{GROUP}/run"
"""Holds run.json, mounted into the Pod."""

GANG_GATE: Final = f"{GROUP}/gang"
"""Scheduling gate of the Pods of a run on several nodes: lifted when all of them exist."""

MANAGED_BY: Final = "finetune-operator"

PREFLIGHT_CONTAINER: Final = "preflight"
TRAINER_CONTAINER: Final = "trainer"


def preflight_pod_name(job: str, generation: int) -> str:
    """Return the name of the Pod that examines one generation of the spec."""
    return f"{job}-preflight-{generation}"


def trainer_pod_name(job: str, attempt: int, replica: int) -> str:
    """Return the name of one replica. It doubles as the idempotency key: a second create is a no-op."""
    return f"{job}-{attempt}-{replica}"


def service_name(job: str, attempt: int) -> str:
    """Return the name of the headless Service through which the replicas of an attempt find each other."""
    return f"{job}-{attempt}"
