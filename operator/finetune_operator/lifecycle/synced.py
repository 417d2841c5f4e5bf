"""A job that a GitOps tool applies: deleted, it would be created again and run again. Called by decide and policies.terminal."""

from dataclasses import replace
from typing import Final

from finetune_operator.api.reasons import Phase
from finetune_operator.api.status import FineTuneJob
from finetune_operator.lifecycle.conditions import Outlook

TOOLS: Final = {"argocd-controller": "Argo CD", "kustomize-controller": "Flux", "helm-controller": "Flux"}
"""Names under which GitOps tools write fields. Labels and annotations of theirs depend on settings; these names do not."""


def synced_by(job: FineTuneJob) -> str:
    """Return the GitOps tool that applies a job; empty where none does."""
    managers = (TOOLS.get(each.manager, "") for each in job.metadata.managed_fields)
    return next(filter(None, managers), "")


def kept_in_git(job: FineTuneJob, outlook: Outlook) -> Outlook:
    """Say at the end of a job that its time to live does not count, where a GitOps tool would create it again."""
    tool = synced_by(job)
    ended = outlook.phase in (Phase.SUCCEEDED, Phase.FAILED)
    if not ended or not tool or job.spec.run_policy.ttl_seconds_after_finished is None:
        return outlook
    why = f"ttlSecondsAfterFinished is ignored, because {tool} would create the job again: remove it from git instead"
    return replace(outlook, message=f"{outlook.message}; {why}")
