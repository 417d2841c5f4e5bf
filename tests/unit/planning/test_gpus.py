"""The GPU catalogue: names as nodes carry them, memory as PyTorch sees it."""

import pytest
from finetune_operator.planning.pools.gpus import BY_KEY, GPUS, gpu


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


def test_no_gpu_has_more_memory_than_its_name_says():
    """GiB that PyTorch reports are fewer than the GB on the box."""
    assert len(GPUS) == 19
    assert all(entry.memory_gib < entry.class_gb for entry in GPUS)
    assert len(BY_KEY) == sum(1 + len(entry.aliases) for entry in GPUS) - 1  # T4 and NVIDIA-T4 are one key
