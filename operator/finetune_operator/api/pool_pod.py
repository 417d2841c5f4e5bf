"""GPUPool.spec.pod: what trainer Pods on the nodes of a pool need beside their GPUs. Used by pools."""

from typing import Annotated, Literal

from pydantic import StringConstraints

from finetune_operator.api.cel import ONE_LINE, Checked, matching, not_matching
from finetune_operator.api.fields import UNIQUE, Model, Name, between, items, items_by
from finetune_operator.api.values import LabelKey, LabelValue, ResourceName

VARIABLE = matching(
    "^((NCCL|FI|UCX|GLOO|TORCH_NCCL|OFI)_[A-Z0-9_]+|(HTTP|HTTPS|NO|ALL)_PROXY|(http|https|no|all)_proxy|HF_ENDPOINT|LD_LIBRARY_PATH"
    "|PYTORCH_ALLOC_CONF)$",
    "must be a variable of the network: NCCL_*, TORCH_NCCL_*, GLOO_*, FI_*, OFI_*, UCX_*, HTTP_PROXY, HTTPS_PROXY, NO_PROXY, ALL_PROXY, "
    "HF_ENDPOINT or LD_LIBRARY_PATH; or PYTORCH_ALLOC_CONF",
)
OURS = not_matching(
    "^([a-z0-9-]+\\.)*(finetune\\.dev|kubernetes\\.io)/", "must not belong to finetune.dev or kubernetes.io"
)
NO_GPU = not_matching(
    "^(nvidia|amd)\\.com/(gpu|mig-)",
    "must not be a GPU: the planner decides how many GPUs a Pod requests",
)
CONFIG_KEY = matching("^[A-Za-z0-9._-]+$", "must be a key of a ConfigMap, such as ca.crt")

VariableName = Annotated[str, StringConstraints(min_length=1, max_length=128), Checked(VARIABLE)]
OwnKey = Annotated[LabelKey, Checked(OURS)]
ConfigMapKey = Annotated[str, StringConstraints(min_length=1, max_length=253), Checked(CONFIG_KEY)]

FAST_NETWORKS = ("rdma", "efa", "infiniband", "hca", "roce", "mlnx", "sriov", "tcpx")
"""What the names of devices for a fast network contain: rdma/ib, vpc.amazonaws.com/efa, nvidia.com/mlnxnics."""


PodGroupKind = Literal["volcano", "scheduler-plugins"]


class PodResource(Model):
    """An extended resource."""

    key: Annotated[ResourceName, Checked(NO_GPU)]
    """Name of the resource, such as rdma/ib or vpc.amazonaws.com/efa."""
    quantity: Annotated[int, between(1, 4096)]
    """How many of it each Pod requests."""


class PodVariable(Model):
    """An environment variable."""

    key: VariableName
    """Name of the variable."""
    value: Annotated[str, StringConstraints(max_length=1024), Checked(ONE_LINE)]
    """Its value, as it is: $(NAME) is not replaced."""


class PodLabel(Model):
    """A label of the Pods."""

    key: OwnKey
    """Label key, such as team or kueue.x-k8s.io/queue-name."""
    value: LabelValue
    """Label value."""


class PodAnnotation(Model):
    """An annotation of the Pods."""

    key: OwnKey
    """Annotation key."""
    value: Annotated[str, StringConstraints(max_length=1024)]
    """Annotation value."""


class CABundle(Model):
    """Certificates that the Pods trust instead of the public ones."""

    config_map: Name
    """ConfigMap in the namespace of each job. The Pods do not start without it."""
    key: ConfigMapKey = "ca.crt"
    """Key of the PEM file in it: every certificate that the Pods shall trust, public ones included."""


class PoolPodSettings(Model):
    """What the trainer Pods of a pool have beside their GPUs. Host networking and privileges are never granted."""

    runtime_class_name: Name | None = None
    """RuntimeClass, such as nvidia, where the container runtime of the nodes does not give GPUs to Pods by default."""
    scheduler_name: Name | None = None
    """Scheduler. Default: the cluster's own."""
    pod_group: PodGroupKind | None = None
    """Create a PodGroup of this scheduler for runs on several nodes, so that it places all their Pods or none. Requires schedulerName."""
    image_pull_secrets: Annotated[list[Name], items("set", most=8), UNIQUE] = []
    """Secrets in the namespace of each job with credentials for the registry of the trainer image."""
    resources: Annotated[list[PodResource], items_by("key", most=8), UNIQUE] = []
    """Further extended resources, such as devices for InfiniBand or EFA. Without one, runs on several nodes are planned with
    Ethernet."""
    environment: Annotated[list[PodVariable], items_by("key", most=32), UNIQUE] = []
    """Environment variables for NCCL and proxies, and PYTORCH_ALLOC_CONF in place of the operator's, for vGPUs."""
    ca_bundle: CABundle | None = None
    """Certificates to trust, for buckets, hubs and proxies that are signed by an authority of your own."""
    labels: Annotated[list[PodLabel], items_by("key", most=16), UNIQUE] = []
    """Labels to add to the Pods."""
    annotations: Annotated[list[PodAnnotation], items_by("key", most=16), UNIQUE] = []
    """Annotations to add to the Pods."""

    @property
    def has_fast_network(self) -> bool:
        """Whether a Pod requests a device with which it reaches InfiniBand or EFA."""
        return any(word in resource.key.lower() for resource in self.resources for word in FAST_NETWORKS)
