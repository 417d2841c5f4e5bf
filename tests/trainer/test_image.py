"""What the planner assumes of the trainer's libraries is what is installed."""

import pytest
import torch
from finetune_operator.planning.pools.gpus import IMAGE_CAPABILITIES


@pytest.mark.skipif(torch.version.cuda is None, reason="a build of torch without CUDA has no kernels to compare")
def test_the_planner_knows_for_which_gpus_torch_has_kernels():
    """A newer torch drops old GPUs and learns new ones: then planning.pools.gpus must follow."""
    flags = torch._C._cuda_getArchFlags().split()
    built = [flag.removeprefix("sm_") for flag in flags if flag.startswith("sm_")]

    assert tuple(f"{each[:-1]}.{each[-1]}" for each in built) == IMAGE_CAPABILITIES
