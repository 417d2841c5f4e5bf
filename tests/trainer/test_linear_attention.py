"""Why planning packs no model with linear attention: transformers refuses packed rows without another library."""

from typing import Any

import pytest
from finetune_operator.planning.models.attention import LINEAR_ATTENTION
from finetune_operator.planning.models.family_table import FAMILIES

pytestmark = pytest.mark.trainer

SMALL = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 128, "linear_num_value_heads": 4,
    "linear_num_key_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
}  # fmt: skip
EXPERTS = {
    "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32,
}  # fmt: skip


def two_rows() -> dict[str, Any]:
    """Return what TRL's collator makes of a packed sequence of 9 and 7 tokens."""
    import torch  # noqa: PLC0415

    borders = torch.tensor([0, 9, 16], dtype=torch.int32)
    return {
        "input_ids": torch.arange(16)[None], "position_ids": torch.tensor([[*range(9), *range(7)]]),
        "cu_seq_lens_q": borders, "cu_seq_lens_k": borders, "max_length_q": 9, "max_length_k": 9, "use_cache": False,
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"])
def test_packed_rows_are_refused(kind: str):
    """When this stops raising, the family can be packed."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM  # noqa: PLC0415

    model = AutoModelForCausalLM.from_config(
        CONFIG_MAPPING[kind](**SMALL, **({} if kind == "qwen3_5_text" else EXPERTS))
    )

    with pytest.raises(ValueError, match="can't keep packed sequences apart"):
        model(**two_rows())


def test_every_family_with_linear_attention_is_listed():
    """The planner knows them by the sizes that they need."""
    hybrid = {kind for kind, family in FAMILIES.items() if family.attention.__name__ == "delta_attention"}

    assert hybrid == {kind for kind in FAMILIES if kind.startswith(LINEAR_ATTENTION)}
