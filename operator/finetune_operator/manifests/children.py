"""All objects of one attempt. Called by lifecycle; sees the job's identity and what its status has pinned, no more."""

from finetune_operator.api.pod_settings import PodSettings
from finetune_operator.api.status import FineTuneJob, FineTuneJobStatus
from finetune_operator.manifests.labels import Manifest
from finetune_operator.manifests.pinned import pinned
from finetune_operator.manifests.pod import trainer_pod
from finetune_operator.manifests.run_config import run_config
from finetune_operator.manifests.service import headless_service

DEFAULTS = PodSettings()


def children(
    job: FineTuneJob, status: FineTuneJobStatus, attempt: int, settings: PodSettings = DEFAULTS
) -> tuple[Manifest, ...]:
    """Return the Service (for two replicas or more) and the Pods of an attempt, in the order of creation."""
    replicas = pinned(status).plan.replicas
    services = (headless_service(job, attempt),) if replicas > 1 else ()
    config = run_config(job, status, attempt)
    return services + tuple(trainer_pod(job, status, config, replica, settings) for replica in range(replicas))
