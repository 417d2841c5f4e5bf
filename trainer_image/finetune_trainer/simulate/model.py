"""The base model as load.base_model loads it, from its config alone and on fake tensors. Used by simulate.step and simulate.loading.

transformers' own loader runs: it asks for each tensor of the files by name, converts, packs and places it. The files do not
exist; a tensor of theirs is made, without values, when it is read.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import bitsandbytes
import torch
from finetune_contract import RunConfig
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    PreTrainedModel,
    core_model_loading,
)
from transformers.core_model_loading import WeightConverter, revert_weight_conversion
from transformers.integrations.bitsandbytes import Bnb4bitQuantize
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.modeling_utils import set_quantized_state
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer

from finetune_trainer.model import experts, targets, varlen
from finetune_trainer.model.load import load_dtype, quantization
from finetune_trainer.model.precision import Computation
from finetune_trainer.model.quantise import experts_too
from finetune_trainer.simulate.kernels import patched
from finetune_trainer.simulate.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Slice:
    """A tensor in a file, which is made when it is read."""

    shape: torch.Size
    dtype: torch.dtype

    def __getitem__(self, _: Any) -> torch.Tensor:
        return torch.empty(self.shape, dtype=self.dtype)

    def get_shape(self) -> list[int]:
        """Return the shape, as safetensors says it."""
        return list(self.shape)


def fake_base_model(config: Any, run: RunConfig, computation: Computation, ledger: Ledger) -> PreTrainedModel:
    """Load the model of a config, its weights without values. Call it under FakeTensorMode and the ledger."""
    dtype, packing = load_dtype(run, computation), quantization(run, computation)
    whole = is_deepspeed_zero3_enabled() and packing is None
    experts.register()
    with ExitStack() as stack:
        stack.enter_context(experts_too())
        # One after the other: other threads would read real tensors. They read ahead what stays, so the peak is the same.
        stack.enter_context(patched(core_model_loading, "is_env_variable_true", lambda name: "ASYNC" in name))
        stack.enter_context(patched(Bnb4bitQuantize, "convert", pack_arriving))
        stack.enter_context(patched(Bnb4BitHfQuantizer, "_process_model_before_weight_loading", empty_layers))
        if whole:
            stack.enter_context(on_the_host(ledger))  # rank 0 reads and converts there, before it shares out
        built: PreTrainedModel = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].from_pretrained(
            None,
            config=config,
            state_dict=read(stored(config, dtype), ledger) if whole else stored(config, dtype),
            dtype=dtype,
            attn_implementation=attention_of(run),
            quantization_config=packing,
            device_map=None if run.layout.zero_stage == 3 else {"": "cpu"},
        )
    for parameter in targets.vision_parameters(built):
        parameter.requires_grad_(False)
    return built


def stored(config: Any, dtype: torch.dtype) -> dict[str, Slice]:
    """Return the tensors of a model's files by their names there: experts lie one by one."""
    with _disable_current_modes(), torch.device("meta"), set_quantized_state():
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        model.tie_weights()
        tied = model.all_tied_weights_keys
        kept = {name: tensor for name, tensor in model.state_dict().items() if name not in tied}
        return {name: Slice(found.shape, found.dtype) for name, found in revert_weight_conversion(model, kept).items()}


def read(files: dict[str, Slice], ledger: Ledger) -> dict[str, torch.Tensor]:
    """Return the tensors of all files in host memory."""
    with ledger.elsewhere():
        return {name: tensor[...] for name, tensor in files.items()}


@contextmanager
def on_the_host(ledger: Ledger) -> Iterator[None]:
    """Convert tensors without counting them."""
    convert = WeightConverter.convert

    def uncounted(*args: Any, **kwargs: Any) -> Any:
        with ledger.elsewhere():
            return convert(*args, **kwargs)

    with patched(WeightConverter, "convert", uncounted):
        yield


def attention_of(run: RunConfig) -> str:
    """Return transformers' attention to build with."""
    if run.layout.attention == varlen.VARLEN:
        varlen.register()
    return run.layout.attention


def prepare_packing() -> None:
    """Make the tables of 4-bit values, which need real numbers. Call it outside FakeTensorMode."""
    bitsandbytes.functional.name2qmap.setdefault("dynamic", bitsandbytes.functional.create_dynamic_map())


make_layers = Bnb4BitHfQuantizer._process_model_before_weight_loading


def empty_layers(*args: Any, **kwargs: Any) -> None:
    """Put bitsandbytes' linear layers where transformers puts them. Their weights are nowhere yet, and cannot be fake."""
    with _disable_current_modes():
        make_layers(*args, **kwargs)


def pack_arriving(
    operation: Bnb4bitQuantize, input_dict: dict[str, Any], model: PreTrainedModel, **_: Any
) -> dict[str, torch.Tensor]:
    """Stand in for the packing of a linear layer. Params4bit cannot wrap a fake tensor, so a plain parameter carries its state."""
    (name,) = input_dict
    value = input_dict[name]
    layer = model.get_submodule(name.rpartition(".")[0])
    return {
        name: packed(layer, value[0] if isinstance(value, list) else value, operation.hf_quantizer.quantization_config)
    }


def packed(layer: bitsandbytes.nn.Linear4bit, value: torch.Tensor, packing: BitsAndBytesConfig) -> nn.Parameter:
    """Return the weight of a layer in 4 bit, and tell the layer how it is packed."""
    data, state = bitsandbytes.functional.quantize_4bit(
        value,
        compress_statistics=packing.bnb_4bit_use_double_quant,
        quant_type=packing.bnb_4bit_quant_type,
        quant_storage=packing.bnb_4bit_quant_storage,
    )
    weight: Any = nn.Parameter(data, requires_grad=False)
    weight.quant_state, layer.quant_state = state, state
    weight.compress_statistics, weight.quant_type = True, packing.bnb_4bit_quant_type
    layer.compute_type_is_set, layer.support_avx512bf16_for_cpu = True, False
    layer._is_hf_initialized = True
    return weight


def states_of_quantisation(model: nn.Module) -> list[torch.Tensor]:
    """Return the scales that belong to 4-bit weights and are parameters of nothing."""
    found = []
    for module in model.modules():
        state = getattr(module, "quant_state", None)
        if state is not None:
            found += [state.absmax, state.state2.absmax, state.offset] if state.nested else [state.absmax]
    return found
