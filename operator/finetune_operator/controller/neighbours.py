"""Another job whose checkpoints lie where this one's are to be. Pure. Called by cluster.observe."""

from collections.abc import Iterable
from typing import Any

from finetune_operator.api.locations import CHECKPOINT_FOLDER, checkpoints_beside
from finetune_operator.api.reasons import Phase
from finetune_operator.controller.stored import Stored

Raw = dict[str, Any]

ENDED = (Phase.SUCCEEDED, Phase.FAILED)


def may_share(job: Stored, destination: str) -> bool:
    """Tell whether a job may keep its checkpoints at a place: few do, and only those are worth reading."""
    return job.phase not in ENDED and destination.rstrip("/").removesuffix(f"/{CHECKPOINT_FOLDER}") in job.text


def at_same_checkpoints(job: Raw, others: Iterable[Raw]) -> str:
    """Return the name of the job that keeps its checkpoints where this job wants to; empty where none does.

    Of two, the one that has begun has the place, else the older one. Asked of a named destination only: the one beside
    the output belongs to whom the output belongs to, which preflight sees to. Other namespaces do not count: nobody may
    hold up another team's jobs by naming their bucket, or learn from a refusal what they run.
    """
    if not (job["spec"].get("checkpoint") or {}).get("destination"):
        return ""
    place, turn = checkpoint_place(job), its_turn(job)
    for other in others:
        if uses_its_place(other) and its_turn(other) < turn and checkpoint_place(other) == place:
            return str(other["metadata"]["name"])
    return ""


def checkpoint_place(job: Raw) -> tuple[str, str, str]:
    """Return namespace, URI and Secret. Two Secrets may lead to one bucket: that is not seen here, but by the trainer."""
    spec = job["spec"]
    output, checkpoint = spec["output"], spec.get("checkpoint") or {}
    uri = (checkpoint.get("destination") or checkpoints_beside(output["destination"])).rstrip("/")
    secret = (checkpoint.get("credentials") or output.get("credentials") or {}).get("secretName", "")
    return job["metadata"]["namespace"], uri, secret


def uses_its_place(job: Raw) -> bool:
    """Tell whether a job may still write checkpoints without being asked to."""
    ended = (job.get("status") or {}).get("phase") in ENDED or "deletionTimestamp" in job["metadata"]
    return not ended and (begun(job) or not job["spec"].get("planOnly"))


def its_turn(job: Raw) -> tuple[bool, str, str]:
    """Return what jobs are ordered by: those that have begun, then by age; the uid only makes it an order."""
    return not begun(job), job["metadata"]["creationTimestamp"], job["metadata"]["uid"]


def begun(job: Raw) -> bool:
    """Tell whether a job has had an attempt."""
    return bool((job.get("status") or {}).get("attempts"))
