"""How fast training is: the clock behind tokens per second, model FLOP utilisation, the share of padding. Called by callbacks and train."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from finetune_contract.run import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What a run has reached so far; None where it is not known yet, or not at all."""

    tokens_per_second: float | None = None
    """Over all GPUs, padding not counted."""
    model_flop_utilisation: float | None = None
    """Of the peak of all GPUs. None on a CPU, whose peak nobody knows."""
    padding_share: float | None = None
    """Of the positions that this process computed."""


def speed_of(clock: "StepClock", padding: "Padding", layout: Layout) -> Speed:
    """Return the speed so far. The operations per token and the peak are the plan's."""
    rate, peak = clock.tokens_per_second, layout.world_size * layout.peak_tflops_per_gpu * 1e12
    used = None if rate is None or not peak else rate * layout.flops_per_token / peak
    share = padding.share
    return Speed(
        tokens_per_second=None if rate is None else round(rate, 1),
        model_flop_utilisation=None if used is None else round(used, 4),
        padding_share=None if share is None else round(share, 4),
    )


class Padding:
    """Counts the positions of this process's training micro batches, and those of them that hold a token."""

    def __init__(self) -> None:
        self.positions = 0
        self.tokens: torch.Tensor | int = 0

    def watch(self, model: torch.nn.Module) -> None:
        """Look at what the model is given while it trains."""
        model.register_forward_pre_hook(self._see, with_kwargs=True)

    def _see(self, model: torch.nn.Module, _positional: tuple[Any, ...], inputs: Mapping[str, Any]) -> None:
        if not model.training:
            return
        positions, mask = inputs["input_ids"].numel(), inputs.get("attention_mask")
        self.positions += positions
        # summed on the GPU, and read where the step's loss is read: nothing waits for it
        self.tokens = self.tokens + (positions if mask is None else mask.sum())

    @property
    def share(self) -> float | None:
        """Share of the positions without a token; None before the first micro batch. Rows without a mask have no padding."""
        return 1.0 - float(self.tokens) / self.positions if self.positions else None


class StepClock:
    """Seconds and tokens of pure training: the first step of an attempt, evaluations and saves are not counted."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.tokens = 0.0
        self.steps = 0
        self._mark: float | None = None
        self._tokens_at_mark = 0.0
        self._paused = 0.0

    def lap(self, total_tokens: float) -> None:
        """Count the step that ends now; `total_tokens` is the trainer's running total."""
        now = time.monotonic()
        if self._mark is not None:
            self.seconds += now - self._mark - self._paused
            self.tokens += total_tokens - self._tokens_at_mark
            self.steps += 1
        self._mark, self._tokens_at_mark, self._paused = now, total_tokens, 0.0

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Do not count what happens inside."""
        started = time.monotonic()
        try:
            yield
        finally:
            self._paused += time.monotonic() - started

    def skip(self) -> None:
        """Do not count what happened since the last lap."""
        if self._mark is not None:
            self._mark, self._paused = time.monotonic(), 0.0

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens of all GPUs per second of training, padding not counted; None before the second step."""
        return self.tokens / self.seconds if self.seconds > 0 else None

    def seconds_for(self, steps: int) -> int | None:
        """Predict how long so many steps take; None before the second step."""
        return round(self.seconds / self.steps * steps) if self.steps else None
