"""What autocast does not have to be told, and what it has to: adapters' inputs, stacked experts."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from finetune_trainer.model import experts
from finetune_trainer.model.precision import float32_adapters, leave_casts_to_autocast
from finetune_trainer.simulate.kernels import patched
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from transformers.models.llama import LlamaConfig
from transformers.models.mixtral import MixtralConfig

from tests.trainer.running import IN_PROCESS
from tests.trainer.tiny import SHAPE

pytestmark = IN_PROCESS


@pytest.mark.parametrize("variant", ["standard", "dora"])
def test_adapters_compute_the_same_without_casts_and_keep_less(variant: str) -> None:
    """Under autocast PEFT's cast to float32 is undone at once. DoRA's layers keep it, because they use the type for more."""
    torch.manual_seed(0)
    config = LlamaConfig(**SHAPE)
    base = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "up_proj", "down_proj"], use_dora=variant == "dora")
    model = get_peft_model(base, lora)
    float32_adapters(model)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    rows = torch.arange(48)[None]
    cast, kept = losses_and_saved(model, rows)
    leave_casts_to_autocast(model)
    mine, mine_kept = losses_and_saved(model, rows)

    assert torch.equal(mine, cast)
    assert (mine_kept == kept) if variant == "dora" else (mine_kept < kept)


def losses_and_saved(model: torch.nn.Module, rows: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Return the loss with all gradients, and the bytes that the forward pass saved for them."""
    saved: dict[int, int] = {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        kept.append(tensor)
        return tensor

    kept: list[torch.Tensor] = []
    model.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        loss = model(input_ids=rows, labels=rows, use_cache=False).loss
    loss.backward()
    slopes = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return torch.cat([loss.detach()[None], *slopes]), sum(saved.values())


def test_experts_are_computed_in_autocasts_type() -> None:
    """torch's grouped product ignores autocast: from float32 weights it would make float32 products. Gradients reach the masters."""
    torch.manual_seed(0)
    config = MixtralConfig(**SHAPE, num_local_experts=4, num_experts_per_tok=2)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    rows, taken = torch.arange(48)[None], []
    experts.register()
    with patched(torch.nn.functional, "grouped_mm", noting(taken)), torch.autocast("cpu", torch.bfloat16):
        loss = model(input_ids=rows, labels=rows, use_cache=False).loss
    loss.backward()
    slopes = [p.grad for name, p in model.named_parameters() if ".experts." in name]
    exact = model(input_ids=rows, labels=rows, use_cache=False).loss

    assert set(taken) == {(torch.bfloat16, torch.bfloat16)}
    assert len(taken) == 4  # two layers, two products each
    assert {slope.dtype for slope in slopes} == {torch.float32}
    assert all(slope.abs().sum() > 0 for slope in slopes)
    assert torch.allclose(loss, exact, atol=2e-2)


def noting(taken: list[tuple[torch.dtype, torch.dtype]]) -> Callable[..., torch.Tensor]:
    """Return torch's grouped product, which writes down the types that it multiplies."""
    multiply = torch.nn.functional.grouped_mm

    def noted(rows: torch.Tensor, weights: torch.Tensor, **named: Any) -> torch.Tensor:
        taken.append((rows.dtype, weights.dtype))
        return multiply(rows, weights, **named)

    return noted
