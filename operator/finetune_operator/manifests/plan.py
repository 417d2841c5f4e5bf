"""The FineTunePlan of a job: what is pinned, as an object of its own. Called by controller.plans."""

from finetune_operator.api.group import API_VERSION, PLAN_KIND
from finetune_operator.api.pinned import content, digest
from finetune_operator.api.status import FineTuneJob, FineTuneJobStatus
from finetune_operator.manifests import names
from finetune_operator.manifests.labels import Manifest, metadata


def fine_tune_plan(job: FineTuneJob, status: FineTuneJobStatus) -> Manifest:
    """Return the object that holds what a status pins. Its name follows from its content: it is created twice as if once."""
    pinned = content(status)
    name = names.plan_name(job.metadata.name, digest(job.metadata.uid, pinned))
    return {"apiVersion": API_VERSION, "kind": PLAN_KIND, "metadata": metadata(job, name, {}), **pinned}
