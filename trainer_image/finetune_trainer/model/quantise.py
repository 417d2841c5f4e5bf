"""4-bit weights for qlora: every linear layer, and the stacked experts that transformers leaves at 16 bit. Called by load.

transformers packs a linear layer as its weights arrive. The experts of a mixture are one tensor a layer and no linear layer:
it would keep them in 16 bit, and packing them once all have arrived needs four times the memory that the packed model does.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.utils.parametrize
from bitsandbytes.functional import QuantState, quantize_4bit
from bitsandbytes.nn.parametrize import Bnb4bitParametrization, _register_parametrization_hooks
from transformers import PreTrainedModel
from transformers.integrations.bitsandbytes import Bnb4bitQuantize
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer

from finetune_trainer.model import targets

FOUR_BIT = "bitsandbytes_4bit"
"""transformers' name of its quantizer."""


class ExpertsToo(Bnb4BitHfQuantizer):
    """transformers' quantizer, which packs stacked experts as they arrive too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.packed: dict[str, QuantState] = {}
        """The scales of packed experts, by the name of their tensor."""

    def param_needs_quantization(self, model: PreTrainedModel, param_name: str, **kwargs: Any) -> bool:
        """Say whether a tensor is packed when it arrives."""
        return super().param_needs_quantization(model, param_name, **kwargs) or _is_expert(model, param_name)

    def get_quantize_ops(self) -> Bnb4bitQuantize:
        """Return what packs one tensor."""
        return PackArriving(self)

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **kwargs: Any) -> PreTrainedModel:
        for name, state in self.packed.items():
            unpack_when_read(model, name, state)
        self.packed.clear()
        return super()._process_model_after_weight_loading(model, **kwargs)


class PackArriving(Bnb4bitQuantize):
    """Packs the tensor that has just arrived, so that there is never more than one in 16 bit."""

    def convert(
        self,
        input_dict: dict[str, Any],
        full_layer_name: str | None = None,
        model: PreTrainedModel | None = None,
        **kwargs: Any,
    ) -> dict[str, torch.Tensor]:
        """Return the tensors packed. Called by transformers with the tensors of one conversion."""
        (name,) = input_dict
        if not _is_expert(model, name):
            return super().convert(input_dict, full_layer_name=full_layer_name, model=model, **kwargs)
        value = input_dict.pop(name)
        data, state = pack(value[0] if isinstance(value, list) else value)
        self.hf_quantizer.packed[name] = state
        return {name: data}


@contextmanager
def experts_too() -> Iterator[None]:
    """Let transformers load 4-bit models with our quantizer for a while."""
    before = AUTO_QUANTIZER_MAPPING[FOUR_BIT]
    AUTO_QUANTIZER_MAPPING[FOUR_BIT] = ExpertsToo
    try:
        yield
    finally:
        AUTO_QUANTIZER_MAPPING[FOUR_BIT] = before


def pack(value: torch.Tensor) -> tuple[torch.Tensor, QuantState]:
    """Return a tensor in NF4 with double quantisation, and its scales."""
    return quantize_4bit(value, compress_statistics=True, quant_type="nf4")


def unpack_when_read(model: PreTrainedModel, name: str, state: QuantState) -> None:
    """Let a packed tensor be read in its own shape and dtype, unpacked for as long as it is used."""
    owner, _, leaf = name.rpartition(".")
    module = model.get_submodule(owner)
    torch.nn.utils.parametrize.register_parametrization(module, leaf, Bnb4bitParametrization(state), unsafe=True)
    _register_parametrization_hooks(module, leaf)


def keep_layout(model: PreTrainedModel) -> None:
    """Keep packed weights as they are when the model is measured between steps.

    On a CPU with AVX-512 BF16, bitsandbytes 0.50 lays them out anew at the first answer, for a kernel that has no gradient; steps
    after that would learn from wrong gradients with no more than a warning.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _is_expert(model: PreTrainedModel | None, name: str) -> bool:
    owner, _, leaf = name.rpartition(".")
    found = getattr(model.get_submodule(owner), leaf, None) if model is not None else None
    return isinstance(found, torch.Tensor) and targets.is_stacked_expert(name, found)
