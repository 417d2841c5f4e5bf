"""TRL's tiled loss, which every run trains with, against the loss that transformers' own class of each family computes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_operator.planning.models.family_table import FAMILIES
from finetune_trainer.model.tiled_loss import fit_for_tiled_loss
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from trl.trainer.utils import add_fused_lm_head

from tests.trainer.running import IN_PROCESS, losses, trained
from tests.trainer.test_architecture_exact import CASES, SMALL
from tests.trainer.tiny import a_run, conversations, tiny_model

pytestmark = IN_PROCESS

BALANCED = {
    "mixtral", "qwen2_moe", "qwen3_moe", "qwen3_next", "qwen3_5_moe_text", "phimoe", "gpt_oss", "olmoe", "granitemoe", "llama4_text",
}  # fmt: skip
"""Mixtures whose full fine-tune adds the routers' loss; the others have no weight for it in their config.json."""


def built(kind: str, overrides: dict[str, Any]) -> Any:
    """Return a small random model of a family, as load hands it over."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**SMALL | overrides), dtype=torch.float32).eval()
    fit_for_tiled_loss(model)
    return model


@pytest.mark.parametrize(("name", "kind", "overrides"), CASES, ids=[case[0] for case in CASES])
def test_the_tiled_loss_is_the_familys_own(name: str, kind: str, overrides: dict[str, Any]) -> None:
    """Its decoder is found, and its logits are scaled and capped; what routers add is what transformers' class adds, where it does."""
    model = built(kind, overrides)
    text = model.config.get_text_config()
    balanced = hasattr(text, "output_router_logits") and getattr(text, "router_aux_loss_coef", 0.0) > 0
    tokens = torch.randint(5, 1000, (2, 24), generator=torch.Generator().manual_seed(1))
    batch = {"input_ids": tokens, "labels": tokens.masked_fill(torch.arange(24) < 5, -100), "use_cache": False}
    asked = {"output_router_logits": True} if balanced else {}
    with torch.no_grad():
        own, with_routers = model(**batch).loss, model(**batch, **asked)
        add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
        tiled = model(**batch, **asked, fused_lm_head=True)

    assert balanced == (kind in BALANCED)
    assert float(-tiled.log_probs.sum() / tiled.label_mask.sum()) == pytest.approx(float(own), abs=1e-4)
    if getattr(with_routers, "aux_loss", None) is not None:
        assert float(tiled.aux_loss) == pytest.approx(float(with_routers.aux_loss), abs=1e-4)
    assert (tiled.aux_loss is not None) == balanced


def test_the_mixtures_are_families_that_we_plan() -> None:
    """A misspelt name would never be compared."""
    assert {kind for kind, family in FAMILIES.items() if family.moe is not None} >= BALANCED


def test_an_adapter_is_not_asked_to_balance_frozen_routers(tmp_path: Path) -> None:
    """Mixtral's own loss has that part: lora's first loss lacks it, a full fine-tune's has it."""
    model = tiny_model(tmp_path / "mixtral", "mixtral")
    data = conversations(tmp_path / "train.jsonl", rows=30)
    first = {}
    for method in ("lora", "full"):
        run = a_run(tmp_path / method, model=model, data=data, method=method, max_steps=1, prompts=(), baseline=False)
        trained(run, tmp_path / method)
        (first[method],) = losses(tmp_path / method)

    # coefficient 0.001 of a loss near 2, the number of experts that a token chooses, where they are balanced
    assert first["full"] - first["lora"] == pytest.approx(0.002, abs=5e-4)
