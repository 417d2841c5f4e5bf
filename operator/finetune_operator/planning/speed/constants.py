"""The numbers of the speed model that no derivation gives: each with its story. Used by planning.throughput.

They are fields of one value so that tests/bench/bench_throughput.py can refit them without the source under test.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """Fitted constants of the speed model, with their defaults."""

    utilisation: float = 0.85
    """Of the FLOP/s that a GPU sustains, what the products of a layer reach."""
    fast_share: float = 0.65
    """Of that, what H100 and later cards reach: beyond 700 nominal TFLOP/s the time between kernels and their last waves
    weighs more. Read off fsdp_qlora's row of four H100; axolotl's of one and MLPerf's reference code on eight, which had no
    part in it, come out right with it."""
    traffic: float = 2.75
    """Memory traffic of everything that is no matrix product, in units of one read and one write of a layer's activations
    (norms, residuals, rotary embedding and SwiGLU are not fused)."""
    adapter_traffic: float = 5.5
    """The same for an adapted layer's inputs and outputs: casts to float32 and back, two small products, a sum."""
    uncast_adapter_share: float = 0.75
    """Of that traffic where inputs are not cast (qlora's rows had bfloat16 adapters)."""
    dequantise_bytes: float = 5.0
    """Traffic per weight and pass to turn 4 bit into 16 bit before a product (2.5 would be the least)."""
    launch_seconds: float = 0.005
    """A layer's kernels take so long to launch, forward, recomputed and backward: short micro batches are bound by it
    (Qwen-1.8B LoRA is equally fast at 256 and 512 tokens)."""
    full_launch_share: float = 0.75
    """Without adapters there are fewer kernels."""
    sharded_launch_seconds: float = 0.006
    """ZeRO-3's hooks, per layer."""
    overlap: float = 0.8
    """Part of the shorter of computing and gathering that does not hide behind the longer (DeepSpeed and FSDP prefetch
    little)."""
    nvlink_gbps: float = 150.0
    """GB/s that a collective moves per GPU inside a node: Qwen-72B LoRA under ZeRO-3 on four A100 takes 2.2 s at 256
    tokens, all of it gathering 324 GB."""
    pcie_gbps: float = 8.0
    """The same over PCI Express: two RTX 3090 reach 4, data-centre boards with peer access more."""


DEFAULT = Constants()
