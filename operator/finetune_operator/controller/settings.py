"""What the installation decides, read once from flags and environment by cli.run and never changed."""

from dataclasses import dataclass
from typing import Literal

from finetune_operator import __version__
from finetune_operator.api.pod_settings import PodSettings
from finetune_operator.lifecycle.observation import Settings

LIFECYCLE = Settings()


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSettings:
    """Everything that can be set about one operator process."""

    kubeconfig: str = ""
    """Path; empty: the Pod's ServiceAccount inside a cluster, else $KUBECONFIG or ~/.kube/config."""
    context: str = ""
    """Context of the kubeconfig; empty: its current one."""
    namespaces: tuple[str, ...] = ()
    """Namespaces to serve; empty: all."""
    trainer_image: str = LIFECYCLE.trainer_image
    preflight_image: str = LIFECYCLE.preflight_image
    pods: PodSettings = LIFECYCLE.pods
    """What all Pods that we create get."""
    retry_back_off_seconds: int = LIFECYCLE.retry_back_off_seconds
    """First back-off between attempts of a job."""
    gpu_publish_seconds: int = LIFECYCLE.gpu_publish_seconds
    """Longest time that GPUs wait for the upload of a model."""
    workers: int = 16
    """Passes that may be in progress at the same time."""
    resync_seconds: float = 300
    """Time between two comparisons of the store with the API server."""
    progress_seconds: float = 10
    """Shortest time between two readings of a trainer's log."""
    read_logs: bool = True
    """Read the trainers' logs for progress; off where pods/log is not granted."""
    leader_election: bool = False
    lease_namespace: str = "default"
    lease_name: str = "finetune-operator"
    http_host: str = "127.0.0.1"
    http_port: int = 0
    """Port of /healthz, /readyz and /metrics; 0: none."""
    refused_seconds: float = 30
    """How long the API server may refuse our credentials before the process ends."""
    watch_silence_seconds: float = 120
    """The liveness endpoint fails when a watch has been known to miss changes for so long."""
    otlp_endpoint: str = ""
    """Address of an OpenTelemetry collector; empty: no traces."""
    log_format: Literal["text", "json"] = "text"
    log_level: str = "INFO"

    @property
    def lifecycle(self) -> Settings:
        """The part that a decision may look at."""
        return Settings(
            trainer_image=self.trainer_image,
            preflight_image=self.preflight_image,
            pods=self.pods,
            retry_back_off_seconds=self.retry_back_off_seconds,
            gpu_publish_seconds=self.gpu_publish_seconds,
            operator_version=__version__,
        )
