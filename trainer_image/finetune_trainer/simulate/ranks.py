"""One process as rank 0 of many that do not exist: torch's fake process group. Used by simulate_step."""

import importlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import copy
from types import ModuleType
from typing import Any

import accelerate.state
import torch
import torch.distributed as dist
from accelerate.utils import DistributedType
from finetune_contract import Layout
from torch.nn.parallel import distributed as ddp
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from finetune_trainer.simulate.kernels import patched


@contextmanager
def one_rank_of(layout: Layout) -> Iterator[None]:
    """Be rank 0 of a layout's world for a while. Plain where that is one process without DeepSpeed."""
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    if layout.world_size == 1 and layout.zero_stage == 0:
        yield
        return
    with ExitStack() as stack:
        stack.callback(accelerate.state.AcceleratorState._reset_state, reset_partial_state=True)
        stack.enter_context(_environment(layout.world_size))
        dist.init_process_group("fake", rank=0, world_size=layout.world_size, store=FakeStore())
        stack.callback(dist.destroy_process_group)
        stack.enter_context(patched(accelerate.state.PartialState, "_prepare_backend", _backend))
        for name in ("_verify_param_shape_across_processes", "_sync_module_states"):
            stack.enter_context(patched(ddp, name, lambda *_, **__: None))  # comparisons of values that do not exist
        if layout.zero_stage:
            stack.enter_context(_deepspeed())
        yield


@contextmanager
def _environment(world_size: int) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(
        RANK="0", LOCAL_RANK="0", WORLD_SIZE=str(world_size), LOCAL_WORLD_SIZE=str(world_size), MASTER_ADDR="127.0.0.1",
        MASTER_PORT="1", DS_ACCELERATOR="cpu", ACCELERATE_TORCH_DEVICE="cpu",
    )  # fmt: skip
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)  # accelerate leaves its choice of DeepSpeed there


def _backend(_state: Any, *_: Any, **__: Any) -> tuple[str, DistributedType]:
    return "fake", DistributedType.MULTI_CPU


@contextmanager
def _deepspeed() -> Iterator[None]:
    """Skip DeepSpeed's comparisons of integers between ranks: their values do not exist."""
    import deepspeed.comm.comm  # noqa: PLC0415 - two seconds
    from deepspeed.runtime.zero import partition_parameters, partitioned_param_coordinator  # noqa: PLC0415
    from deepspeed.utils import groups  # noqa: PLC0415

    with ExitStack() as stack:
        backend = importlib.import_module("deepspeed.comm.torch")
        stack.enter_context(patched(backend, "build_shm_op", lambda: None))  # a compiler's minute
        stack.enter_context(_forgotten(groups))
        # ZeRO-3 replaces it by a version of its own, for good.
        stack.enter_context(patched(torch.nn.functional, "linear", torch.nn.functional.linear))
        stack.callback(unset_hf_deepspeed_config)
        stack.callback(setattr, deepspeed.comm.comm, "cdb", None)
        for module in (partition_parameters, partitioned_param_coordinator):
            for name in [name for name in vars(module) if name.startswith("assert_ints_same")]:
                stack.enter_context(patched(module, name, lambda *_, **__: None))
        yield


@contextmanager
def _forgotten(module: ModuleType) -> Iterator[None]:
    """Put a module's own state back afterwards: DeepSpeed keeps process groups there."""
    before = {name: copy(value) for name, value in vars(module).items() if name.startswith("_") and name[1:2].isupper()}
    try:
        yield
    finally:
        vars(module).update(before)


def reduce_nothing(_state: object, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:  # type: ignore[name-defined]
    """Stand in for DDP's all-reduce, which works in place on its bucket."""
    done: torch.futures.Future[torch.Tensor] = torch.futures.Future()
    done.set_result(bucket.buffer())
    return done
