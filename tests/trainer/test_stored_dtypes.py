"""What a whole model is published in: the dtype of its base, but for what its authors keep in float32."""

from pathlib import Path

import torch
from finetune_trainer.model.precision import store_in
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from transformers.models.glm4_moe import Glm4MoeConfig

from tests.trainer.running import IN_PROCESS, trained
from tests.trainer.tiny import SHAPE, a_run, conversations, tiny_tokenizer

pytestmark = IN_PROCESS

CHOOSING = "model.layers.1.mlp.gate.e_score_correction_bias"


def glm(folder: Path) -> Path:
    """Save a tiny GLM 4.5 in bfloat16; what it chooses experts by is not representable in that."""
    torch.manual_seed(0)
    config = Glm4MoeConfig(
        **SHAPE, head_dim=16, n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, first_k_dense_replace=1,
        pad_token_id=0, bos_token_id=1, eos_token_id=4,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.get_buffer(CHOOSING).data = torch.tensor([0.1, 0.2, 0.3, 0.4])
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def test_what_chooses_experts_is_published_as_it_was(tmp_path: Path) -> None:
    """A full fine-tune does not train it; in 16 bit some tokens would be given to other experts."""
    base = glm(tmp_path / "glm")
    data = conversations(tmp_path / "train.jsonl", rows=30)
    run = a_run(tmp_path, model=base, data=data, method="full", max_steps=1, prompts=(), baseline=False)
    trained(run, tmp_path)
    stored, published = load_file(base / "model.safetensors"), load_file(tmp_path / "out/model/model.safetensors")

    assert {name: tensor.dtype for name, tensor in published.items()} == {
        name: tensor.dtype for name, tensor in stored.items()
    }
    assert torch.equal(published[CHOOSING], stored[CHOOSING])


def test_frequencies_stay_exact(tmp_path: Path) -> None:
    """They are in no file: a merged model is compared with its adapter in this process, at positions where 16 bit would tell."""
    model = AutoModelForCausalLM.from_pretrained(glm(tmp_path), dtype=torch.float32)
    before = model.model.rotary_emb.inv_freq.clone()
    store_in(model, torch.bfloat16)

    assert model.dtype == torch.bfloat16
    assert torch.equal(model.model.rotary_emb.inv_freq, before)
