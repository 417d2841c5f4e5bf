"""The pools that `finetune plan` plans on when it is given none: common GPUs at what clouds ask for them."""

from finetune_operator.api.meta import Metadata
from finetune_operator.api.pool_pod import PodResource, PoolPodSettings
from finetune_operator.api.pools import GPUPool, GPUPoolSpec, Interconnect, NodeShape

PRICE_SOURCE = (
    "skypilot-catalog v8 (2025-H2 to 2026): Nebius for H100, H200 and B200, Verda for A100, the upper end for L40S"
)

ROWS = (
    # name, GPU type, GPUs per node, nodes, price, capacity, links, network Gbit/s
    ("h100", "NVIDIA-H100-80GB-HBM3", 8, 4, "2.95", "on-demand", "nvlink", 3200),
    ("h100-spot", "NVIDIA-H100-80GB-HBM3", 8, 4, "1.25", "spot", "nvlink", 3200),
    ("h200", "NVIDIA-H200", 8, 4, "3.50", "on-demand", "nvlink", 3200),
    ("b200", "NVIDIA-B200", 8, 2, "5.50", "on-demand", "nvlink", 3200),
    ("a100", "NVIDIA-A100-SXM4-80GB", 8, 4, "1.29", "on-demand", "nvlink", 1600),
    ("l40s", "NVIDIA-L40S", 4, 4, "1.55", "on-demand", "pcie", 100),
)


def built_in_pools() -> tuple[GPUPool, ...]:
    """Return the pools."""
    return tuple(_pool(*row) for row in ROWS)


def _pool(  # noqa: PLR0913, PLR0917  # one argument per column of the table
    name: str, gpu_type: str, gpus: int, nodes: int, price: str, capacity: str, links: str, gbps: int
) -> GPUPool:
    spec = {
        "gpu_type": gpu_type,
        "gpus_per_node": gpus,
        "max_nodes": nodes,
        "node": NodeShape(cpus=24 * gpus, memory_gib=240 * gpus, ephemeral_gib=400 * gpus),
        "interconnect": Interconnect.model_validate(
            {"within_node": links, "between_nodes": "infiniband", "between_nodes_gbps": gbps}
        ),
        "pod": PoolPodSettings(resources=[PodResource(key="rdma/ib", quantity=1)]),
        "capacity": capacity,
        "price_per_gpu_hour_usd": price,
    }
    return GPUPool(metadata=Metadata(name=name, uid=name), spec=GPUPoolSpec.model_validate(spec))
