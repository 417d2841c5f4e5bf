"""The sizes that a config.json gives to the tensors of a decoder, by name. Called by layout; the table of names uses the words."""

from typing import Any

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


def sizes(config: Any) -> dict[str, int]:
    """Return the sizes of a text decoder's configuration (a transformers.PretrainedConfig) that its tensors are made of."""
    hidden, heads = config.hidden_size, config.num_attention_heads
    head = _number(config, "head_dim") or hidden // heads
    key_values = _number(config, "num_key_value_heads") or heads
    narrow, wide = _number(config, "moe_intermediate_size"), _number(config, "intermediate_size")
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": hidden,
        "intermediate_size": wide,
        "2 x intermediate_size": 2 * wide,
        "moe_intermediate_size": narrow,
        "2 x moe_intermediate_size": 2 * narrow,
        "experts": number_of_experts(config),
        "num_attention_heads x head_dim": heads * head,
        "num_key_value_heads x head_dim": key_values * head,
        "(num_attention_heads + 2 x num_key_value_heads) x head_dim": (heads + 2 * key_values) * head,
        "head_dim": head,
        "3 x hidden_size": 3 * hidden,
    }


def number_of_experts(config: Any) -> int:
    """Return how many routed experts a layer has that has any; 0 for a dense model."""
    return next((number for key in EXPERTS if (number := _number(config, key))), 0)


def _number(config: Any, key: str) -> int:
    """Return a size; 0 where the configuration has none, or one for each layer (Gemma 4)."""
    try:
        value = getattr(config, key, None)
    except RuntimeError:
        return 0
    return value if isinstance(value, int) else 0
