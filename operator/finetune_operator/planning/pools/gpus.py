"""The GPUs we know: memory as PyTorch sees it, arithmetic, bandwidth, links. Called by the planner and `finetune gpus`.

"80 GB" means 79.1 GiB to PyTorch, an L40S's "48 GB" 44.3, an A10G's "24 GB" 22.0: error correction and firmware take
the rest. What is marked `recalled` is from data sheets as remembered, not re-read; all else has been read or measured.
"""

from dataclasses import dataclass

OOM_REPORTS = "out-of-memory messages and logs in public issues"
IMAGE_CAPABILITIES = ("7.5", "8.0", "8.6", "9.0", "10.0", "12.0")
"""What the trainer image's PyTorch has kernels for: torch._C._cuda_getArchFlags() of torch 2.13.0+cu130. A kernel also runs on later
GPUs of the same major version (CUDA's binary compatibility)."""

FIRST_WITH_BFLOAT16 = (8, 0)
"""Ampere. The trainer computes in bfloat16, for which older GPUs have no arithmetic."""

ML_ENGINEERING = "stas00/ml-engineering, compute/accelerator (2026-08)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One entry of the catalogue."""

    name: str
    """As the node label nvidia.com/gpu.product spells it."""
    aliases: tuple[str, ...] = ()
    capability: str
    """CUDA compute capability (developer.nvidia.com/cuda-gpus); empty: not an NVIDIA GPU."""
    class_gb: int
    """What it is sold as."""
    memory_gib: float
    """Total as PyTorch reports it; the lowest report, since that is the one that must fit."""
    nvidia_smi_mib: int
    """Total as nvidia-smi reports it; 0: not known."""
    tflops: float
    """Dense bfloat16 TFLOP/s (float16 where there is no bfloat16: T4, V100)."""
    measured_tflops: float = 0.0
    """The largest matrix product anyone measured; 0: not known."""
    memory_tbps: float
    """Memory bandwidth in TB/s."""
    link_gbps: int = 0
    """GPU to GPU inside a node, GB/s both ways; 0: PCI Express only."""
    recalled: tuple[str, ...] = ()
    """Fields from memory of data sheets: check them before relying on them."""
    source: str = OOM_REPORTS + "; " + ML_ENGINEERING


GPUS: tuple[Gpu, ...] = (
    Gpu(
        name="NVIDIA-H100-80GB-HBM3", capability="9.0", aliases=("H100", "H100-SXM"), class_gb=80, memory_gib=79.1, nvidia_smi_mib=81_559,
        tflops=989, measured_tflops=794, memory_tbps=3.35, link_gbps=900,
    ),
    Gpu(
        name="NVIDIA-H100-PCIe", capability="9.0", aliases=("H100-80GB-PCIe",), class_gb=80, memory_gib=79.1, nvidia_smi_mib=81_559,
        tflops=756, memory_tbps=2.0,
    ),
    Gpu(
        name="NVIDIA-H100-NVL", capability="9.0", aliases=("H100-NVL-94GB",), class_gb=94, memory_gib=93.6, nvidia_smi_mib=95_830,
        tflops=835, memory_tbps=3.9, link_gbps=600, recalled=("memory_gib", "tflops"),
    ),
    Gpu(
        name="NVIDIA-H200", capability="9.0", aliases=("H200-SXM", "H200-141GB"), class_gb=141, memory_gib=139.7, nvidia_smi_mib=143_771,
        tflops=989, memory_tbps=4.8, link_gbps=900,
    ),
    Gpu(
        name="NVIDIA-B200", capability="10.0", class_gb=180, memory_gib=178.35, nvidia_smi_mib=183_359, tflops=2250, measured_tflops=1745,
        memory_tbps=8.0, link_gbps=1800,
    ),
    Gpu(
        name="NVIDIA-A100-SXM4-80GB", capability="8.0", aliases=("A100", "A100-80GB", "A100-SXM-80GB"), class_gb=80, memory_gib=79.1,
        nvidia_smi_mib=81_920, tflops=312, measured_tflops=271, memory_tbps=2.0, link_gbps=600,
    ),
    Gpu(
        name="NVIDIA-A100-80GB-PCIe", capability="8.0", class_gb=80, memory_gib=79.1, nvidia_smi_mib=81_920, tflops=312,
        measured_tflops=253, memory_tbps=1.94,
    ),
    Gpu(
        name="NVIDIA-A100-SXM4-40GB", capability="8.0", aliases=("A100-40GB",), class_gb=40, memory_gib=39.4, nvidia_smi_mib=40_960,
        tflops=312, memory_tbps=1.55, link_gbps=600,
    ),
    Gpu(
        name="NVIDIA-A100-PCIE-40GB", capability="8.0", class_gb=40, memory_gib=39.4, nvidia_smi_mib=40_960, tflops=312, memory_tbps=1.55,
    ),
    Gpu(name="NVIDIA-L40S", capability="8.9", class_gb=48, memory_gib=44.3, nvidia_smi_mib=46_068, tflops=362, memory_tbps=0.86),
    Gpu(
        name="NVIDIA-RTX-A6000", capability="8.6", aliases=("A6000",), class_gb=48, memory_gib=47.2, nvidia_smi_mib=49_140, tflops=155,
        memory_tbps=0.77, recalled=("tflops", "memory_tbps"),
    ),
    Gpu(
        name="NVIDIA-L4", capability="8.9", class_gb=24, memory_gib=22.0, nvidia_smi_mib=23_034, tflops=121, memory_tbps=0.30,
        recalled=("tflops", "memory_tbps"),
    ),
    Gpu(
        name="NVIDIA-A10G", capability="8.6", class_gb=24, memory_gib=22.0, nvidia_smi_mib=23_028, tflops=70, memory_tbps=0.60,
        recalled=("tflops", "memory_tbps"),
    ),
    Gpu(
        name="NVIDIA-GeForce-RTX-4090", capability="8.9", aliases=("RTX-4090",), class_gb=24, memory_gib=23.5, nvidia_smi_mib=24_564,
        tflops=165, memory_tbps=1.01, recalled=("tflops", "memory_tbps"),
    ),
    Gpu(
        name="NVIDIA-GeForce-RTX-3090", capability="8.6", aliases=("RTX-3090",), class_gb=24, memory_gib=23.5, nvidia_smi_mib=24_576,
        tflops=71, memory_tbps=0.94, recalled=("tflops", "memory_tbps"),
    ),
    Gpu(
        name="Tesla-T4", capability="7.5", aliases=("T4", "NVIDIA-T4"), class_gb=16, memory_gib=14.5, nvidia_smi_mib=15_360, tflops=65,
        memory_tbps=0.32, recalled=("tflops", "memory_tbps"),
    ),
    Gpu(
        name="Tesla-V100-SXM2-16GB", capability="7.0", aliases=("V100", "V100-16GB"), class_gb=16, memory_gib=15.77, nvidia_smi_mib=0,
        tflops=125, memory_tbps=0.9, link_gbps=300, recalled=("tflops", "memory_tbps", "link_gbps"),
    ),
    Gpu(
        name="Tesla-V100-SXM2-32GB", capability="7.0", aliases=("V100-32GB",), class_gb=32, memory_gib=31.74, nvidia_smi_mib=0,
        tflops=125, memory_tbps=0.9, link_gbps=300, recalled=("tflops", "memory_tbps", "link_gbps"),
    ),
    Gpu(
        name="AMD-Instinct-MI300X", capability="", aliases=("MI300X",), class_gb=192, memory_gib=191.7, nvidia_smi_mib=0, tflops=1300,
        measured_tflops=668, memory_tbps=5.3, link_gbps=896, recalled=("link_gbps",),
    ),
)  # fmt: skip
"""By name. The figures are of one whole GPU: a MIG slice's pool says its memory itself (spec.memoryGiB)."""


def _key(name: str) -> str:
    """Compare names without case, vendor, blanks, and the suffix of time-sliced GPUs."""
    return name.lower().replace(" ", "-").removeprefix("nvidia-").removesuffix("-shared")


BY_KEY = {_key(name): entry for entry in GPUS for name in (entry.name, *entry.aliases)}


def gpu(name: str) -> Gpu | None:
    """Return the catalogue's entry of a GPU type, None where it is not known (a MIG slice is not)."""
    return BY_KEY.get(_key(name))


def unsupported(entry: Gpu) -> str:
    """Say why the trainer image cannot use a GPU; empty: it can."""
    if not entry.capability:
        return f"{entry.name} cannot run the trainer image, which is built for CUDA: use NVIDIA GPUs"
    major, minor = map(int, entry.capability.split("."))
    built = [tuple(map(int, each.split("."))) for each in IMAGE_CAPABILITIES]
    if not any(one == major and other <= minor for one, other in built):
        return (
            f"{entry.name} has compute capability {entry.capability}, and the trainer image has kernels for "
            f"{', '.join(IMAGE_CAPABILITIES)} only: use newer GPUs, from A100, A10G or L4 on"
        )
    if (major, minor) < FIRST_WITH_BFLOAT16:
        return f"{entry.name} has no bfloat16 arithmetic, in which the trainer computes: use newer GPUs, from A100, A10G or L4 on"
    return ""
