"""The base model as model.base_model loads it, from its config alone and on fake tensors. Used by simulate_step."""

from contextlib import nullcontext
from typing import Any

import bitsandbytes
import torch
from finetune_contract import RunConfig
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, set_quantized_state
from transformers.quantizers import AutoHfQuantizer
from transformers.quantizers.base import get_keys_to_not_convert
from transformers.quantizers.quantizers_utils import should_convert_module

from finetune_trainer.model import targets
from finetune_trainer.model.load import quantise_experts, quantization
from finetune_trainer.model.precision import Computation

FLASH = "simulated_varlen"
"""Attention without masks: rows are told apart by their lengths."""


def fake_base_model(config: Any, run: RunConfig, computation: Computation) -> PreTrainedModel:
    """Build the model of a config, its weights without values. Call it under FakeTensorMode."""
    dtype, packing = getattr(torch, computation.weights), quantization(run, computation)
    # What is quantised is loaded whole, and divided by DeepSpeed's engine: transformers' get_init_context.
    with no_init_weights(), set_quantized_state() if packing is not None else nullcontext():
        built = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention_of(run))
    built.tie_weights()
    for parameter in targets.vision_parameters(built):
        parameter.requires_grad_(False)
    if packing is not None:
        pack_linears(built, packing)
        quantise_experts(built)
    return built


def attention_of(run: RunConfig) -> str:
    """Return transformers' attention to build with; flash-attn cannot be installed here, so a stand-in without masks is."""
    return without_masks() if run.layout.attention == "flash_attention_2" else run.layout.attention


def without_masks() -> str:
    """Register the stand-in for flash-attn with transformers, and return its name."""
    ALL_ATTENTION_FUNCTIONS.register(FLASH, sdpa_attention_forward)
    ALL_MASK_ATTENTION_FUNCTIONS.register(FLASH, lambda *_, **__: None)
    return FLASH


def prepare_packing() -> None:
    """Make the tables of 4-bit values, which need real numbers. Call it outside FakeTensorMode."""
    bitsandbytes.functional.name2qmap.setdefault("dynamic", bitsandbytes.functional.create_dynamic_map())


def pack_linears(model: PreTrainedModel, packing: BitsAndBytesConfig) -> None:
    """Put bitsandbytes' linear layers where transformers would put them."""
    kept = get_keys_to_not_convert(model)
    for name, module in list(model.named_modules()):
        if type(module) is nn.Linear and should_convert_module(name, kept):
            model.set_submodule(name, packed(module, packing))
    model.is_loaded_in_4bit = model.is_quantized = True
    model.quantization_method = packing.quant_method
    model.hf_quantizer = AutoHfQuantizer.from_config(packing)


def packed(linear: nn.Linear, packing: BitsAndBytesConfig) -> bitsandbytes.nn.Linear4bit:
    """Return a linear layer in 4 bit. Params4bit cannot wrap a fake tensor, so a plain parameter carries its state."""
    layer = bitsandbytes.nn.Linear4bit.__new__(bitsandbytes.nn.Linear4bit)
    nn.Module.__init__(layer)
    data, state = bitsandbytes.functional.quantize_4bit(
        linear.weight.data,
        compress_statistics=packing.bnb_4bit_use_double_quant,
        quant_type=packing.bnb_4bit_quant_type,
        quant_storage=packing.bnb_4bit_quant_storage,
    )
    layer.weight = nn.Parameter(data, requires_grad=False)
    layer.weight.quant_state, layer.quant_state = state, state
    layer.weight.compress_statistics, layer.weight.quant_type = True, packing.bnb_4bit_quant_type
    layer.in_features, layer.out_features = linear.in_features, linear.out_features
    layer.bias = linear.bias
    layer.compute_dtype, layer.compute_type_is_set = packing.bnb_4bit_compute_dtype, True
    layer.quant_storage, layer.support_avx512bf16_for_cpu = packing.bnb_4bit_quant_storage, False
    return layer


def states_of_quantisation(model: nn.Module) -> list[torch.Tensor]:
    """Return the scales that belong to 4-bit weights and are parameters of nothing."""
    found = []
    for module in model.modules():
        state = getattr(module, "quant_state", None)
        if state is not None:
            found += [state.absmax, state.state2.absmax, state.offset] if state.nested else [state.absmax]
    return found
