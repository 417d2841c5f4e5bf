"""What writes send: a status, and the options of a deletion. Pure. Called by cluster."""

from typing import Any

from finetune_operator.api.group import API_VERSION, JOB_KIND
from finetune_operator.api.pinned import reported
from finetune_operator.api.status import FineTuneJob, FineTuneJobStatus


def status_body(job: FineTuneJob, status: FineTuneJobStatus, plan_name: str | None) -> dict[str, Any]:
    """Return the body of a status write: nothing else of it counts, and spec and labels would only be read in vain."""
    meta = job.metadata
    # The version that was decided upon, not the newest one known: that is the fence.
    fence = {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid, "resourceVersion": meta.resource_version}
    return {"apiVersion": API_VERSION, "kind": JOB_KIND, "metadata": fence, "status": reported(status, plan_name)}


def delete_options(uid: str, grace_seconds: int | None = None) -> dict[str, Any]:
    """Return the body of a DELETE that only the object with this uid can match."""
    options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
    if uid:
        options["preconditions"] = {"uid": uid}
    return options if grace_seconds is None else options | {"gracePeriodSeconds": grace_seconds}
