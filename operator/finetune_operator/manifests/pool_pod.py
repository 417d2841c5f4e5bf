"""What pool and installation add to a Pod: proxies, certificates, devices. Called by pod, preflight and export."""

from finetune_contract.pods import variable

from finetune_operator.api.pool_pod import PoolPodSettings
from finetune_operator.api.spec import PodMetadata
from finetune_operator.manifests.labels import Manifest

CA_FOLDER = "/etc/finetune-ca"
CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE")
"""Where Python's ssl and httpx, requests, and botocore look for certificates."""


def pod_fields(settings: PoolPodSettings) -> Manifest:
    """Return the fields of the Pod's spec."""
    fields: Manifest = {}
    if settings.runtime_class_name:
        fields["runtimeClassName"] = settings.runtime_class_name
    if settings.scheduler_name:
        fields["schedulerName"] = settings.scheduler_name
    if settings.image_pull_secrets:
        fields["imagePullSecrets"] = [{"name": name} for name in settings.image_pull_secrets]
    return fields


def environment(settings: PoolPodSettings) -> list[Manifest]:
    """Return the pool's variables as they are written (the kubelet would replace $(NAME)), and those that name its certificates."""
    named = [variable(each.key, each.value.replace("$", "$$")) for each in settings.environment]
    if settings.ca_bundle is None:
        return named
    file = f"{CA_FOLDER}/{settings.ca_bundle.key}"
    return named + [variable(name, file) for name in CA_VARIABLES]


def resources(settings: PoolPodSettings) -> dict[str, str]:
    """Return the pool's further resources of a Pod."""
    return {each.key: str(each.quantity) for each in settings.resources}


def volumes(settings: PoolPodSettings) -> list[Manifest]:
    """Return the volume of the pool's certificates."""
    if settings.ca_bundle is None:
        return []
    key = settings.ca_bundle.key
    source = {"name": settings.ca_bundle.config_map, "items": [{"key": key, "path": key}]}
    return [{"name": "ca-bundle", "configMap": source}]


def mounts(settings: PoolPodSettings) -> list[Manifest]:
    """Return where the container sees it."""
    if settings.ca_bundle is None:
        return []
    return [{"name": "ca-bundle", "mountPath": CA_FOLDER, "readOnly": True}]


def labels(settings: PoolPodSettings | PodMetadata) -> dict[str, str]:
    """Return the labels of a pool, or of a job."""
    return {each.key: each.value for each in settings.labels}


def annotations(settings: PoolPodSettings | PodMetadata) -> dict[str, str]:
    """Return the annotations of a pool, or of a job."""
    return {each.key: each.value for each in settings.annotations}
