"""The computation a run really does: dtype of the weights and of the arithmetic, by device. Called by train and model.

docs/decisions/0004-precision.md says why the CPU differs.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Computation:
    """What the numbers are stored and multiplied in."""

    device: str
    """cuda | cpu"""
    weights: str
    """dtype of the model's weights (of the frozen base, for an adapter)"""
    compute: str
    """dtype of the matrix products"""

    @property
    def autocast(self) -> bool:
        """Whether bfloat16 products run over weights of another dtype, or beside float32 adapters."""
        return self.device == "cuda" and self.compute == "bfloat16" and (self.weights != "bfloat16" or self.adapters)

    adapters: bool = False
    """LoRA matrices are float32 masters beside the base."""

    def sentence(self) -> str:
        """Say it in words, for the log and the model card."""
        masters = ", float32 adapter weights" if self.adapters else ""
        return f"{self.weights} weights{masters}, {self.compute} computation on {self.device}"


def computation(method: str, precision: str, *, device: str) -> Computation:
    """Choose the dtypes of a run.

    On a GPU products are bfloat16; `mixed` keeps float32 weights under them, `bf16` keeps bfloat16 weights only. On the
    CPU everything is float32, because bfloat16 products are slow there and mean nothing for memory planning; only a
    full fine-tune that asks for `bf16` gets it, since there it changes the result.
    """
    adapters = method != "full"
    if device == "cpu":
        dtype = "bfloat16" if precision == "bf16" and not adapters else "float32"
        return Computation(device=device, weights=dtype, compute=dtype, adapters=adapters)
    weights = "bfloat16" if precision == "bf16" else "float32"
    return Computation(device=device, weights=weights, compute="bfloat16", adapters=adapters)
