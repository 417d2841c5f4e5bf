"""Metadata of every child: who owns it, what it is for. Called by service, pod and preflight."""

from typing import Any

from finetune_operator.api.group import API_VERSION, JOB_KIND
from finetune_operator.api.status import FineTuneJob
from finetune_operator.manifests import names

Manifest = dict[str, Any]
"""One child as a plain dict, ready to create."""


def metadata(job: FineTuneJob, name: str, labels: dict[str, str]) -> Manifest:
    """Return a child's metadata: deleting the job deletes the child."""
    return {
        "name": name,
        "namespace": job.metadata.namespace,
        "labels": common_labels(job) | labels,
        "ownerReferences": [owner_reference(job)],
    }


def common_labels(job: FineTuneJob) -> dict[str, str]:
    """Return the labels that all children of a job share."""
    return {
        "app.kubernetes.io/name": "finetune",
        "app.kubernetes.io/instance": job.metadata.name,
        "app.kubernetes.io/managed-by": names.MANAGED_BY,
        "app.kubernetes.io/part-of": "finetune",
        names.JOB_NAME_LABEL: job.metadata.name,
        names.JOB_UID_LABEL: job.metadata.uid,
    }


def attempt_labels(job: FineTuneJob, attempt: int) -> dict[str, str]:
    """Return what selects the Pods of one attempt: the Service uses it."""
    return {
        names.JOB_UID_LABEL: job.metadata.uid,
        names.ROLE_LABEL: "trainer",
        names.ATTEMPT_LABEL: str(attempt),
    }


def owner_reference(job: FineTuneJob) -> Manifest:
    """Return the controller reference that makes a child ours."""
    return {
        "apiVersion": API_VERSION,
        "kind": JOB_KIND,
        "name": job.metadata.name,
        "uid": job.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
