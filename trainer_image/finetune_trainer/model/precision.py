"""The computation a run does: dtypes of weights and arithmetic, as chosen by device and as found. Called by train and model.

docs/decisions/0004-precision.md says why the CPU differs, and why adapters are float32 on a 4-bit base, too.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Computation:
    """What the numbers are stored and multiplied in."""

    device: str
    """cuda | cpu"""
    weights: str
    """dtype of the model's weights (of the frozen base, for an adapter)"""
    compute: str
    """dtype of the matrix products"""
    adapters: bool = False
    """LoRA matrices beside the base: float32, but for DeepSpeed's 16-bit copies of its masters."""

    @property
    def autocast(self) -> bool:
        """Whether bfloat16 products run over weights of another dtype, or beside float32 adapters."""
        return self.device == "cuda" and self.compute == "bfloat16" and (self.weights != "bfloat16" or self.adapters)


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


def float32_adapters(model: torch.nn.Module) -> None:
    """Store an adapter's matrices in float32, whatever the library chose. Not for sharded runs: DeepSpeed keeps masters.

    TRL stores adapters of a quantised base in bfloat16, as the QLoRA paper did. An optimizer step is smaller than the distance
    between two such numbers for most weights, and a resume would load them as float32.
    """
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "lora_" in name:  # embeddings beside it (modules_to_save) would cost too much
            parameter.data = parameter.data.float()


def leave_casts_to_autocast(model: torch.nn.Module) -> None:
    """Keep PEFT from casting what an adapted matrix reads to the adapter's float32: autocast casts it back at once.

    The products are the same, and no float32 copy is made or 16-bit copy kept. DoRA's layers are left as they are: they take the norms
    of their weights in the type of what they read. Only for runs that train under autocast.
    """
    for module in model.modules():
        if isinstance(module, BaseTunerLayer) and not getattr(module, "lora_variant", None):
            module.cast_input_dtype_enabled = False


def store_in(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Convert a model to the dtype that it is published in, all but what its authors keep in float32.

    The biases by which routers of DeepSeek V3 and GLM 4.5 choose experts are in float32 in the files of their hub, and so loaded.
    """
    kept, published = model._keep_in_fp32_modules_strict or (), model.state_dict()  # noqa: SLF001 - transformers has no other name
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if name in published and tensor.is_floating_point() and not any(part in name for part in kept):
            tensor.data = tensor.data.to(dtype)


def stored_as(model: torch.nn.Module, numbers: Computation, *, masters: bool) -> str:
    """Say in words what a model is stored and multiplied in, read off its tensors. For the log, the card and the manifest.

    `masters`: a sharded optimizer keeps float32 copies of the 16-bit weights that are trained.
    """
    frozen = _dtypes(parameter for parameter in model.parameters() if not parameter.requires_grad)
    trained = _dtypes(parameter for parameter in model.parameters() if parameter.requires_grad)
    kept = " with float32 masters" if masters and trained == "bfloat16" else ""
    weights = f"{frozen} base, {trained} adapter" if numbers.adapters else f"{trained} weights"
    return f"{weights}{kept}, {numbers.compute} computation on {numbers.device}"


def _dtypes(parameters: Iterable[torch.nn.Parameter]) -> str:
    """Return the dtypes, the most frequent one first; those of less than a hundredth are left out."""
    sizes: Counter[str] = Counter()
    for parameter in parameters:
        packed = hasattr(parameter, "quant_state") or getattr(parameter, "bnb_quantized", False)
        size = int(getattr(parameter, "ds_numel", parameter.numel()))
        sizes["4-bit (NF4)" if packed else str(parameter.dtype).removeprefix("torch.")] += size
    large = [name for name, size in sizes.most_common() if size * 100 >= sizes.total()]
    return " and ".join(large)
