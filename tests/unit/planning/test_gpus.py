"""The GPU catalogue: names as nodes carry them, memory as PyTorch sees it."""

import re
from datetime import UTC, datetime

import pytest
from finetune_operator.controller.pools import accepted
from finetune_operator.errors import DoesNotFit
from finetune_operator.planning.pools.gpus import BY_KEY, GPUS, gpu, unsupported

from tests.unit.planning.planning_builders import a_pool
from tests.unit.planning.test_planner import planned


@pytest.mark.parametrize(
    ("label", "name", "gib"),
    [
        ("NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-80GB-HBM3", 79.1),
        ("nvidia-a100-sxm4-80gb", "NVIDIA-A100-SXM4-80GB", 79.1),
        ("NVIDIA A10G", "NVIDIA-A10G", 22.0),
        ("NVIDIA-A10G-SHARED", "NVIDIA-A10G", 22.0),
        ("L40S", "NVIDIA-L40S", 44.3),
    ],
)
def test_a_label_finds_its_gpu(label, name, gib):
    """Vendor prefix, case and the suffix of time slicing do not matter."""
    found = gpu(label)

    assert found is not None
    assert (found.name, found.memory_gib) == (name, gib)


@pytest.mark.parametrize("label", ["NVIDIA-H100-80GB-HBM3-MIG-1g.10gb", "local-cpu", ""])
def test_what_the_catalogue_does_not_have_is_not_guessed(label):
    """A MIG slice has the memory that its pool says, not that of the whole GPU."""
    assert gpu(label) is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("V100", "Tesla-V100-SXM2-16GB has compute capability 7.0, and the trainer image has kernels for "
         "7.5, 8.0, 8.6, 9.0, 10.0, 12.0 only: use newer GPUs, from A100, A10G or L4 on"),
        ("T4", "Tesla-T4 has no bfloat16 arithmetic, in which the trainer computes: use newer GPUs, from A100, A10G or L4 on"),
        ("MI300X", "AMD-Instinct-MI300X cannot run the trainer image, which is built for CUDA: use NVIDIA GPUs"),
        ("L4", ""),
        ("B200", ""),
    ],
)  # fmt: skip
def test_a_gpu_that_the_image_cannot_use_is_refused_with_the_reason(name, reason):
    """No kernel for it, no bfloat16, or no CUDA. An L4 (8.9) runs the kernels for 8.6."""
    assert unsupported(BY_KEY[name.lower()]) == reason


@pytest.mark.parametrize(
    ("pool", "reason"),
    [
        ({"gpuType": "Tesla-T4", "memoryGiB": "14.5"}, "Tesla-T4 has no bfloat16 arithmetic"),
        ({"gpuType": "ACME-X9", "memoryGiB": "64", "resourceName": "amd.com/gpu"}, "resourceName amd.com/gpu is an AMD GPU"),
        ({"gpuType": "ACME-X9"}, "gpuType ACME-X9 is not in the catalogue (`finetune gpus`): set memoryGiB in the pool"),
    ],
)  # fmt: skip
def test_nothing_is_planned_on_a_pool_of_such_gpus(pool, reason):
    """The refusal is the plan's, the pool's condition and the command line's."""
    with pytest.raises(DoesNotFit, match=re.escape(reason)):
        planned("135m", a_pool(**pool))
    found = accepted(a_pool(**pool), datetime.now(UTC))

    assert found.status == "False"
    assert found.message.startswith(reason)


def test_no_gpu_has_more_memory_than_its_name_says():
    """GiB that PyTorch reports are fewer than the GB on the box."""
    assert len(GPUS) == 19
    assert all(entry.memory_gib < entry.class_gb for entry in GPUS)
    assert len(BY_KEY) == sum(1 + len(entry.aliases) for entry in GPUS) - 1  # T4 and NVIDIA-T4 are one key
