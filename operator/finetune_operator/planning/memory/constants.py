"""The numbers of the memory model that no derivation gives: each with its story. Used by estimate and its terms.

They are fields of one value so that tests/bench/bench_vram.py can refit them without the source under test.
"""

from dataclasses import dataclass, field

from finetune_operator.planning.memory.scenario import LossKernel

GIB = 2**30


def _logits() -> dict[LossKernel, float]:
    return {
        "stock": 12.0, "bf16": 8.0, "in-place": 8.0, "chunked": 2.0, "litgpt": 9.0, "liger": 0.5, "cce": 0.5,
        "tiled": 0.5,
    }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """Free constants of the memory model, with their defaults."""

    logits_bytes: dict[LossKernel, float] = field(default_factory=_logits)
    """Bytes per (token x vocabulary) at the start of backward."""
    fsdp_adapter_working_set: float = 1.8
    """FSDP with PEFT keeps nearly two layers' recomputed activations (IBM's FSDP LoRA rows; no derivation known)."""
    compiled_activations: float = 0.8
    """torch.compile fuses pointwise operations: stored activations shrink by a fifth (torchtune's ablation)."""
    slack: float = 1.2
    """Reserved over allocated, of activations: equal lengths (IBM gives both readings)."""
    slack_fused: float = 1.08
    """The same where no logits come and go (IBM, Liger rows)."""
    slack_padded_logits: float = 2.3
    """Reserved beyond allocated where lengths change from batch to batch and segments cannot expand, in units of the logits:
    blocks of other lengths stay cached. Replayed (tests/bench/replay_allocator.py): 1.1 where few rows are long, 4.8 where
    all lengths are alike; their geometric middle."""
    slack_padded_rest: float = 1.1
    """The same in units of everything else, where that is more: 0.75 to 1.6."""
    slack_padded_square: float = 0.7
    """The same for what grows with the square of the length, of which most rows need little: 0.45 to 1.2."""
    context_gib: float = 1.3
    """CUDA context, cuBLAS and cuDNN on one GPU: between IBM's floor (nvidia-smi less allocated, 0.92) and Qwen's 1.7 to
    2 of the short rows."""
    communication_gib: float = 2.5
    """NCCL on two GPUs or more: the same floor there is 3.5."""
    deepspeed_gib: float = 0.4
    """DeepSpeed's process group and streams, also on one GPU (Qwen's ZeRO rows on one GPU)."""
    fabric_outputs: float = 2.0
    """litgpt's 4-bit linears without checkpointing keep their output again (litgpt's pairs of nf4 and bf16 rows)."""


DEFAULT = Constants()
