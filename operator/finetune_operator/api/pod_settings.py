"""What an installation wants of all Pods that the operator creates: read from `finetune run --pod-settings`, a JSON object.

Where the Pods may run, what a quota or a LimitRange asks of preflight, labels and annotations for queues, meshes and bills.
"""

from typing import Annotated, Final

from pydantic import Field

from finetune_operator.api.fields import UNIQUE, Model, Name, items, items_by
from finetune_operator.api.group import GROUP
from finetune_operator.api.pool_pod import CABundle, PodVariable, PoolPodSettings
from finetune_operator.api.pools import Toleration
from finetune_operator.errors import FinetuneError

WORKSPACE_GIB = 20
"""Tokenizer, config and a sample of the data; the weights are not fetched."""

OTHER_ARCHITECTURES: Final = {
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64", "s390x",
}  # fmt: skip
"""Values of the node label kubernetes.io/arch: Go's names."""


class Resources(Model):
    """Requests and limits of one container, as Kubernetes spells them."""

    requests: dict[str, str] = {"cpu": "500m", "memory": "1Gi", "ephemeral-storage": "1Gi"}
    limits: dict[str, str] = {"cpu": "4", "memory": "8Gi", "ephemeral-storage": f"{WORKSPACE_GIB}Gi"}


class PreflightSettings(Model):
    """Where preflight runs and with what. Memory grows with the rows that are read; 8 GiB hold what it reads at once."""

    resources: Resources = Resources()
    node_selector: dict[str, str] = {}
    tolerations: Annotated[list[Toleration], items("atomic", most=16)] = []


class PodSettings(Model):
    """What all Pods get."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    environment: Annotated[list[PodVariable], items_by("key", most=32), UNIQUE] = []
    """Variables of the network, as a pool's; the pool's own win."""
    ca_bundle: CABundle | None = None
    """Certificates to trust, where a pool names none."""
    image_pull_secrets: Annotated[list[Name], items("set", most=8), UNIQUE] = []
    """Secrets in the namespace of each job with credentials for the registry of the images, beside those of a pool."""
    architectures: Annotated[list[str], Field(min_length=1)] = ["amd64"]
    """Processors that the trainer and preflight images are built for."""
    preflight: PreflightSettings = PreflightSettings()

    def on(self, pool: PoolPodSettings) -> PoolPodSettings:
        """Return what the Pods of a pool have, with what all Pods have."""
        own = {each.key for each in pool.environment}
        names = [*self.image_pull_secrets, *pool.image_pull_secrets]
        return pool.model_copy(
            update={
                "environment": [*(each for each in self.environment if each.key not in own), *pool.environment],
                "ca_bundle": pool.ca_bundle or self.ca_bundle,
                "image_pull_secrets": list(dict.fromkeys(names)),
            }
        )

    @property
    def elsewhere(self) -> PoolPodSettings:
        """What Pods have that run on no pool: preflight and exports."""
        return self.on(PoolPodSettings())


def read_pod_settings(text: str) -> PodSettings:
    """Return the settings that a JSON object holds. Raises FinetuneError saying which field is wrong."""
    try:
        settings = PodSettings.model_validate_json(text or "{}")
    except ValueError as error:
        raise FinetuneError(f"--pod-settings cannot be read: {error}") from error
    ours = [key for key in (*settings.labels, *settings.annotations) if key.startswith(f"{GROUP}/")]
    if ours:
        raise FinetuneError(f"--pod-settings sets {', '.join(ours)}, which the operator sets itself: remove it")
    return settings
