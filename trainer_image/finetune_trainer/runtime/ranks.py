"""What the processes of a run agree on: sums, maxima, rank 0's word, barriers. Called by callbacks, evaluate and checkpoints.

With one process every function returns at once. torch is imported by the first call that needs it: the worker asks for its
rank before it loads any library.
"""

import os
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def rank() -> int:
    """Return this process's global rank."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """Return this process's rank within its replica."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def world_size() -> int:
    """Return the number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def total(values: Sequence[float]) -> list[float]:
    """Add each value over all processes. Every process must call it."""
    return _reduced(values, "SUM")


def largest(values: Sequence[float]) -> list[float]:
    """Take the maximum of each value over all processes. Every process must call it."""
    return _reduced(values, "MAX")


def from_first(value: T) -> T:
    """Return rank 0's value in every process. Every process must call it."""
    if world_size() == 1:
        return value
    import torch  # noqa: PLC0415 - see above

    said = [value]
    torch.distributed.broadcast_object_list(said, src=0)
    return said[0]


def gathered(value: T) -> list[T]:
    """Return every process's value, by rank, in every process; returns when all are here. Every process must call it."""
    if world_size() == 1:
        return [value]
    import torch  # noqa: PLC0415 - see above

    said: list[T] = [value] * world_size()
    torch.distributed.all_gather_object(said, value)
    return said


def _reduced(values: Sequence[float], operation: str) -> list[float]:
    if world_size() == 1:
        return list(values)
    import torch  # noqa: PLC0415 - see above

    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(tensor, op=getattr(torch.distributed.ReduceOp, operation))
    return [float(value) for value in tensor.tolist()]


def wait_for_all() -> None:
    """Return when every process is here."""
    if world_size() > 1:
        import torch  # noqa: PLC0415 - see above

        torch.distributed.barrier()
