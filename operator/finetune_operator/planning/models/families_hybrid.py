"""Families whose layers differ: Qwen3-Next and Qwen3.5 (linear attention), Gemma 4 (two head sizes, shared keys).

Called by family_table. The order of layer types matters only where the last layers share their keys with earlier ones.
"""

from collections.abc import Iterator

from finetune_operator.planning.models.config import Config
from finetune_operator.planning.models.families import Family, Linear, gated, linear, mixture, split_attention


def full_attention_layers(config: Config, every: int) -> int:
    """Count the layers with full attention: as config.json lists them, else each `every`-th."""
    counts = config.counts("layer_types")
    return counts.get("full_attention", 0) if counts else config.layers // every


def delta_widths(config: Config) -> tuple[int, int, int]:
    """Return widths of keys and values, and the number of value heads, of the gated delta rule."""
    heads = config.number("linear_num_value_heads")
    keys = config.number("linear_num_key_heads") * config.number("linear_key_head_dim")
    return keys, heads * config.number("linear_value_head_dim"), heads


def delta_attention(config: Config, family: Family) -> Iterator[Linear]:
    """Yield gated full attention and the gated delta rule of the other layers."""
    full = full_attention_layers(config, config.optional("full_attention_interval", 4))
    count, hidden = config.layers - full, config.hidden
    keys, values, heads = delta_widths(config)
    for part in split_attention(config, family, full):
        # The query projection also makes the output gate.
        wide = 2 * part.outputs if part.name == "q_proj" else part.outputs
        yield linear(part.name, part.inputs, wide, part.count, part.role, part.bias)
    if config.flag("fused_delta_projections"):
        yield linear("in_proj_qkvz", hidden, 2 * keys + 2 * values, count, "attention")
        yield linear("in_proj_ba", hidden, 2 * heads, count, "attention")
    else:
        yield linear("in_proj_qkv", hidden, 2 * keys + values, count, "attention")
        yield linear("in_proj_z", hidden, values, count, "attention")
        yield linear("in_proj_b", hidden, heads, count, "attention")
        yield linear("in_proj_a", hidden, heads, count, "attention")
    yield linear("out_proj", values, hidden, count, "attention")


def delta_vectors(config: Config) -> int:
    """Count the convolution, decay and norm of the delta rule, and the query and key norms of full attention."""
    full = full_attention_layers(config, config.optional("full_attention_interval", 4))
    keys, values, heads = delta_widths(config)
    convolution = (2 * keys + values) * config.number("linear_conv_kernel_dim")
    delta = convolution + 2 * heads + config.number("linear_value_head_dim")
    return (config.layers - full) * delta + full * 2 * config.head_dim


def is_full(config: Config, index: int) -> bool:
    """Whether Gemma 4's layer `index` has full attention: the last one always has."""
    listed = config.values.get("layer_types")
    if isinstance(listed, list) and index < len(listed) - 1:
        return bool(listed[index] == "full_attention")
    full = max(1, full_attention_layers(config, 6))
    period = max(1, round(config.layers / full))
    return index == config.layers - 1 or (index + 1) % period == 0


def gemma4_layers(config: Config) -> dict[tuple[bool, bool], int]:
    """Count Gemma 4's layers by (full attention, keys shared with an earlier layer)."""
    first_shared = config.layers - config.optional("num_kv_shared_layers")
    counts: dict[tuple[bool, bool], int] = {}
    for index in range(config.layers):
        kind = (is_full(config, index), index >= first_shared)
        counts[kind] = counts.get(kind, 0) + 1
    return counts


def gemma4_heads(config: Config, full: bool) -> tuple[int, int]:
    """Return (head size, key and value heads) of sliding or full attention."""
    if not full:
        return config.head_dim, config.key_value_heads
    shared = config.optional("num_global_key_value_heads", config.key_value_heads)
    return config.optional("global_head_dim", 512), shared if config.flag(
        "attention_k_eq_v"
    ) else config.key_value_heads


def gemma4_attention(config: Config, family: Family) -> Iterator[Linear]:
    """Yield the projections of sliding and full layers; shared layers have no keys and values of their own."""
    bias, hidden = family.says(family.qkv_bias, config), config.hidden
    for (full, shared), count in gemma4_layers(config).items():
        head, key_value_heads = gemma4_heads(config, full)
        yield linear("q_proj", hidden, config.heads * head, count, "attention", bias)
        yield linear("o_proj", config.heads * head, hidden, count, "attention", bias)
        if shared:
            continue
        yield linear("k_proj", hidden, key_value_heads * head, count, "attention", bias)
        if not (full and config.flag("attention_k_eq_v")):
            yield linear("v_proj", hidden, key_value_heads * head, count, "attention", bias)


def gemma4_mlp(config: Config, family: Family) -> Iterator[Linear]:
    """Yield the MLPs (twice as wide in shared layers where config.json says so), experts and per-layer inputs."""
    shared = config.optional("num_kv_shared_layers") if config.flag("use_double_wide_mlp") else 0
    yield from gated(config, config.mlp_width, config.layers - shared)
    yield from gated(config, 2 * config.mlp_width, shared)
    if config.flag("enable_moe_block"):
        yield from mixture(config, family)
    if width := config.optional("hidden_size_per_layer_input"):
        yield linear("per_layer_input_gate", config.hidden, width, config.layers, "other")
        yield linear("per_layer_projection", width, config.hidden, config.layers, "other")
        yield linear("per_layer_model_projection", config.hidden, config.layers * width, 1, "other")


def gemma4_vectors(config: Config) -> int:
    """Count query and key norms, and those around experts and per-layer inputs."""
    total = 0
    for (full, shared), count in gemma4_layers(config).items():
        total += count * gemma4_heads(config, full)[0] * (1 if shared else 2)
    if config.flag("enable_moe_block"):
        total += config.layers * (4 * config.hidden + config.number("num_experts"))
    if width := config.optional("hidden_size_per_layer_input"):
        total += config.layers * config.hidden + width
    return total


def gemma4_embeddings(config: Config) -> int:
    """Count the second embedding table, with a vector per token and layer."""
    width = config.optional("hidden_size_per_layer_input")
    return config.optional("vocab_size_per_layer_input", config.number("vocab_size")) * config.layers * width
