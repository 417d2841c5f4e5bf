"""How fast a Pod without GPUs is: what one of its cores does in a second. Called by exports and merging.

Measured by `python -m tests.bench.bench_merging` on one core of an Intel Xeon of 2023 (Sapphire Rapids, 2 GHz), with torch 2.9, as CPU
seconds. Where older processors are slower, the figure is theirs.
"""

from dataclasses import dataclass

EXPORT_CPUS = 4

CONTAINER_SECONDS = 10.0
"""From the node's choice to the first line of Python; the image is taken to be on the node."""

IMPORT_SECONDS = 7.0
"""torch, transformers, PEFT and TRL; 6.4 measured, with their files in memory. One core, however many there are."""

FLOAT32_FLOPS = 6e10
"""Of one core in matrix products of float32, in which both models are measured. Measured: 9.7e10 with AVX-512; 7.6e10 for the products
alone where only AVX2 is used. A CPU of a cloud is often half a core."""

SIXTEEN_BIT_FLOPS = 4e10
"""The same in bfloat16, for a processor of unknown kind. Measured: 8e11 with AMX, 2.7e10 with AVX-512 alone."""

ANSWER_BYTES_PER_SECOND = 5e9
"""Weights that one core passes for the next token of up to eight answers. Measured: 5.3e9 in float32; 15e9 for one answer."""


MATRICES_PER_LAYER = 7
"""With an adapter: those of attention and of the MLP."""

MATRIX_SECONDS = 0.01
"""For each matrix with an adapter, whenever a model is built: PEFT replaces its module. Measured: 1.7 s for 210."""

LOADED_BYTES_PER_SECOND = 1e9
"""Weights from files that are in memory or on a fast volume, converted where they must be. Measured: 0.54 GB of float32 in 0.5 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuSeconds:
    """Work in seconds of one core."""

    shared: float = 0.0
    """All cores share it: matrix products."""
    alone: float = 0.0
    """One core does it, however many there are: reading, converting, sorting, writing."""

    def __add__(self, other: "CpuSeconds") -> "CpuSeconds":
        return CpuSeconds(shared=self.shared + other.shared, alone=self.alone + other.alone)

    def on(self, cpus: int) -> float:
        """Return how long it takes on so many cores."""
        return self.shared / cpus + self.alone
