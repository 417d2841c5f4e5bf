"""The machine under test, and the time that a part may take. Used by every part."""

import gc
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import torch

GIB = 2**30
VERSIONS = (
    "accelerate", "bitsandbytes", "deepspeed", "liger-kernel", "peft", "torch", "transformers", "triton", "trl",
)  # fmt: skip


class Late(BaseException):
    """The part has used up its time. No Exception: transformers' loader would swallow it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """Where the check runs, and whether it runs whole."""

    device: str
    """cuda | cpu"""
    reduced: bool
    """On a CPU: the smallest sizes, so that every line runs within seconds."""
    say: Callable[[dict[str, Any]], None]
    """Writes one record."""
    ends: float
    """When the part must be over, by time.monotonic."""

    @property
    def left(self) -> float:
        """Seconds."""
        return self.ends - time.monotonic()


def machine(device: str) -> dict[str, Any]:
    """Return what the figures depend on."""
    found: dict[str, Any] = {"device": device, "versions": {name: _version(name) for name in VERSIONS}}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "gpu": properties.name, "capability": f"{properties.major}.{properties.minor}", "cuda": torch.version.cuda,
            "memoryGiB": round(properties.total_memory / GIB, 2), "cudnn": torch.backends.cudnn.version(),
        }  # fmt: skip
    return found


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise Late in the block when its time is over: between two bytecodes, so a kernel that runs is waited for."""

    def over(*_: Any) -> None:
        raise Late

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, max(0.01, seconds))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def free() -> None:
    """Give the memory of what was dropped back to the card."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def reset_peaks() -> None:
    """Count peaks from here on."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()


def peaks() -> dict[str, float]:
    """Return the peaks of allocated and reserved memory, and what the card has given away in all; empty on a CPU."""
    if not torch.cuda.is_available():
        return {}
    unused, total = torch.cuda.mem_get_info()
    found = {
        "allocatedGiB": torch.cuda.max_memory_allocated(),
        "reservedGiB": torch.cuda.max_memory_reserved(),
        "cardGiB": total - unused,
    }
    return {name: round(value / GIB, 3) for name, value in found.items()}


def seconds_of(action: Callable[[], object], device: str) -> float:
    """Return how long an action takes on the card."""
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    action()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started
