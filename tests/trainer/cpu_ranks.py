"""One rank of a sharded run on a machine without a GPU. TEST ONLY: run as `python -m tests.trainer.cpu_ranks`.

accelerate takes DeepSpeed's configuration only where it sees GPUs, and runs plain data parallelism on CPUs without a word. This
process tells it that gloo ranks are what it calls several GPUs, and then is the trainer's own worker. It says when
DeepSpeed makes an optimizer on the host. DeepSpeed's shared-memory collectives for CPUs are left out: gloo does as well, and
they would be compiled first, for a minute.

With SIGTERM_AT in its environment the process hears SIGTERM in that step, as a Pod that is evicted.

Every rank but the first is slow to list a folder that is staged, so that a rank 0 that removes what others still read is seen
by every run and not by one in a hundred.
"""

import os
import signal
import sys
import time
from typing import Any

import deepspeed.ops
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from deepspeed.ops.adam import DeepSpeedCPUAdam
from finetune_trainer.process import worker
from finetune_trainer.training.callbacks import Reports
from transformers import training_args

ENVIRONMENT = {"ACCELERATE_TORCH_DEVICE": "cpu", "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
"""What such a process needs besides the rank variables."""


def _gloo_counts_as_gpus(_state: PartialState, *_: Any, **__: Any) -> tuple[str, DistributedType]:
    return "gloo", DistributedType.MULTI_GPU


def _lag_behind() -> None:
    at_once = os.scandir

    def late(path: Any = ".") -> Any:
        if "/staging/" in f"{os.fspath(path)}/":
            time.sleep(0.5)
        return at_once(path)

    os.scandir = late  # type: ignore[assignment]


def _hear_sigterm_at(step: int) -> None:
    report = Reports.on_step_end

    def interrupted(self: Reports, args: Any, state: Any, *rest: Any, **more: Any) -> None:
        report(self, args, state, *rest, **more)
        if state.global_step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    Reports.on_step_end = interrupted  # type: ignore[method-assign]


def _tell_of_host_optimizers() -> None:
    """When they are made, because training has a process of its own below this one."""
    make = DeepSpeedCPUAdam.__init__

    def told(self: DeepSpeedCPUAdam, *args: Any, **more: Any) -> None:
        make(self, *args, **more)
        print("an optimizer on the host", flush=True)

    DeepSpeedCPUAdam.__init__ = told


if __name__ == "__main__":
    assert ENVIRONMENT.items() <= os.environ.items()
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    PartialState._prepare_backend = _gloo_counts_as_gpus
    training_args.is_torch_bf16_gpu_available = lambda: True
    if os.environ["RANK"] != "0":
        _lag_behind()
    if step := os.environ.get("SIGTERM_AT"):
        _hear_sigterm_at(int(step))
    _tell_of_host_optimizers()
    sys.exit(worker.main())
