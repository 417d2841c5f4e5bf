"""The headless Service through which the replicas of one attempt find each other. Only for two replicas or more."""

from finetune_operator.api.status import FineTuneJob
from finetune_operator.manifests import names
from finetune_operator.manifests.labels import Manifest, attempt_labels, metadata


def headless_service(job: FineTuneJob, attempt: int) -> Manifest:
    """Return the Service. Replicas that are not ready yet have an address too: readiness comes after rendezvous."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(job, names.service_name(job.metadata.name, attempt), attempt_labels(job, attempt)),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": attempt_labels(job, attempt),
        },
    }
