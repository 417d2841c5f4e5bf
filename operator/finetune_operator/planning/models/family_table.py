"""The decoder families that can be sized, by `model_type`. Called by architecture; parts in families, families_hybrid.

Defaults are those of transformers 5.23's configuration classes, for keys that published config.json files leave out.
"""

from finetune_operator.planning.models.config import Config
from finetune_operator.planning.models.families import (
    Family,
    Moe,
    falcon_attention,
    fused_attention,
    fused_gate_mlp,
    latent_attention,
    latent_vectors,
    mixture,
    neox_attention,
    plain_mlp,
)
from finetune_operator.planning.models.families_hybrid import (
    delta_attention,
    delta_vectors,
    gemma4_attention,
    gemma4_embeddings,
    gemma4_mlp,
    gemma4_vectors,
)

TIED = {"tie_word_embeddings": True}
DELTA = {
    "head_dim": 256,
    "linear_num_value_heads": 32,
    "linear_num_key_heads": 16,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
}
GEMMA3 = {
    **TIED, "vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 131072,
}  # fmt: skip


def every_step(config: Config) -> int:
    """Count the layers with experts: each `decoder_sparse_step`-th, less those named as dense."""
    dense = config.length("mlp_only_layers") or 0
    step = config.optional("decoder_sparse_step", 1)
    return max(0, config.layers // step - dense) if step else 0


def after_first(config: Config) -> int:
    """Count the layers with experts: all but the first few."""
    return config.layers - min(config.layers, config.optional("first_k_dense_replace"))


def interleaved(config: Config) -> int:
    """Count Llama 4's layers with experts: as listed, else each `interleave_moe_layer_step`-th."""
    listed = config.length("moe_layers")
    return config.layers // max(1, config.optional("interleave_moe_layer_step", 1)) if listed is None else listed


def deepseek_shared(config: Config) -> int:
    """Return the width of DeepSeek's shared experts, which are one MLP."""
    return config.optional("n_shared_experts", 1) * config.number("moe_intermediate_size")


def falcon_vectors(config: Config) -> int:
    """Count Falcon's second norm, where a layer has one."""
    two = not config.flag("parallel_attn")
    if config.flag("parallel_attn") and config.flag("new_decoder_architecture"):
        two = config.optional("num_ln_in_parallel_attn", 2) == 2
    return config.layers * 2 * config.hidden * two


def per_head_norms(config: Config) -> int:
    """Count the query and key norms that have a scale per head (Command-R+, StableLM 2)."""
    used = config.flag("use_qk_norm") or config.flag("qk_layernorm")
    return config.layers * (config.query_width + config.key_value_width) * used


def phi_norms(config: Config) -> int:
    """Count Phi's query and key norms, shared by the heads, with biases."""
    return config.layers * 4 * config.head_dim * config.flag("qk_layernorm")


def glm_norms(config: Config) -> int:
    """Count GLM-4.5's query and key norms."""
    return config.layers * 2 * config.head_dim * config.flag("use_qk_norm")


SPARSE_QWEN = Moe(sparse_layers=every_step)
SHARED_QWEN = Moe(
    sparse_layers=every_step, shared="shared_expert", shared_gate=True,
    shared_width=lambda config: config.number("shared_expert_intermediate_size"),
)  # fmt: skip
DEEPSEEK = Moe(
    experts="n_routed_experts", shared="shared_experts", shared_width=deepseek_shared, sparse_layers=after_first
)
LOCAL_EXPERTS = Moe(experts="num_local_experts", width="intermediate_size")
BIASED = "attention_bias"

FAMILIES: dict[str, Family] = {
    "llama": Family(qkv_bias=BIASED, out_bias=BIASED, mlp_bias="mlp_bias"),
    "llama4_text": Family(
        qkv_bias=BIASED, out_bias=BIASED, mlp=mixture, defaults={"head_dim": 128, "num_experts_per_tok": 1},
        moe=Moe(experts="num_local_experts", width="intermediate_size", router="router", shared="shared_expert",
                shared_width=lambda config: config.mlp_width, sparse_layers=interleaved,
                dense_width="intermediate_size_mlp"),
    ),
    "mistral": Family(defaults={"num_key_value_heads": 8}),
    "ministral3": Family(defaults={"head_dim": 128}),
    "mixtral": Family(mlp=mixture, moe=LOCAL_EXPERTS, defaults={"num_key_value_heads": 8, "num_experts_per_tok": 2}),
    "qwen2": Family(qkv_bias=True),
    "qwen3": Family(qkv_bias=BIASED, out_bias=BIASED, qk_norm="head", defaults={"head_dim": 128}),
    "qwen2_moe": Family(qkv_bias=True, mlp=mixture, moe=SHARED_QWEN),
    "qwen3_moe": Family(qkv_bias=BIASED, out_bias=BIASED, qk_norm="head", mlp=mixture, moe=SPARSE_QWEN),
    "qwen3_next": Family(
        attention=delta_attention, vectors=delta_vectors, mlp=mixture, moe=SHARED_QWEN, qkv_bias=BIASED,
        out_bias=BIASED, defaults={**DELTA, "fused_delta_projections": True},
    ),
    "qwen3_5_text": Family(
        attention=delta_attention, vectors=delta_vectors, qkv_bias=BIASED, out_bias=BIASED, defaults=DELTA
    ),
    "qwen3_5_moe_text": Family(
        attention=delta_attention, vectors=delta_vectors, mlp=mixture, qkv_bias=BIASED, out_bias=BIASED,
        defaults=DELTA, moe=Moe(shared="shared_expert", shared_gate=True, shared_width=SHARED_QWEN.shared_width),
    ),
    "gemma": Family(qkv_bias=BIASED, out_bias=BIASED, defaults={**TIED, "head_dim": 256}),
    "gemma2": Family(
        qkv_bias=BIASED, out_bias=BIASED, norms=4, eager_only=True, defaults={**TIED, "head_dim": 256}
    ),
    "gemma3_text": Family(qkv_bias=BIASED, out_bias=BIASED, norms=4, qk_norm="head", defaults=GEMMA3),
    "gemma4_text": Family(
        attention=gemma4_attention, mlp=gemma4_mlp, vectors=gemma4_vectors, embeddings=gemma4_embeddings, norms=4,
        qkv_bias=BIASED, moe=Moe(top_k="top_k_experts", router="proj"),
        defaults={**GEMMA3, "vocab_size": 262144, "num_hidden_layers": 30, "hidden_size_per_layer_input": 256},
    ),
    "phi": Family(
        mlp=plain_mlp("fc1", "fc2"), qkv_bias=True, out_bias=True, mlp_bias=True, head_bias=True, out_name="dense",
        norms=1, norm_bias=True, vectors=phi_norms,
    ),
    "phi3": Family(attention=fused_attention, mlp=fused_gate_mlp),
    "phimoe": Family(
        qkv_bias=BIASED, out_bias=BIASED, head_bias="lm_head_bias", norm_bias=True, mlp=mixture,
        moe=Moe(experts="num_local_experts", width="intermediate_size", router="router"),
        defaults={"num_key_value_heads": 8, "num_local_experts": 16, "num_experts_per_tok": 2},
    ),
    "smollm3": Family(qkv_bias=BIASED, out_bias=BIASED, mlp_bias="mlp_bias", defaults=TIED),
    "deepseek_v2": Family(
        attention=latent_attention, vectors=latent_vectors, mlp=mixture, moe=DEEPSEEK, qkv_bias=BIASED,
        defaults={"qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128, "kv_lora_rank": 512},
    ),
    "deepseek_v3": Family(
        attention=latent_attention, vectors=latent_vectors, mlp=mixture, moe=DEEPSEEK, qkv_bias=BIASED,
        defaults={"qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128, "kv_lora_rank": 512},
    ),
    "gpt_oss": Family(
        eager_only=True, qkv_bias=BIASED, out_bias=BIASED, mlp=mixture,
        vectors=lambda config: config.layers * config.heads,
        moe=Moe(experts="num_local_experts", width="intermediate_size", router="router", router_bias=True,
                expert_bias=True),
        defaults={"attention_bias": True, "head_dim": 64, "num_experts_per_tok": 4},
    ),
    "falcon": Family(
        attention=falcon_attention, mlp=plain_mlp("dense_h_to_4h", "dense_4h_to_h", "ffn_hidden_size"), norms=1,
        norm_bias=True, qkv_bias="bias", mlp_bias="bias", vectors=falcon_vectors,
        defaults={**TIED, "multi_query": True, "parallel_attn": True},
    ),
    "gpt_neox": Family(
        attention=neox_attention, mlp=plain_mlp("dense_h_to_4h", "dense_4h_to_h"), qkv_bias=BIASED, mlp_bias=True,
        norm_bias=True, defaults={"attention_bias": True},
    ),
    "olmo": Family(qkv_bias=BIASED, out_bias=BIASED, norms=0, final_norm=False),
    "olmo2": Family(qkv_bias=BIASED, out_bias=BIASED, qk_norm="width"),
    "olmo3": Family(qkv_bias=BIASED, out_bias=BIASED, qk_norm="width"),
    "olmoe": Family(
        qkv_bias=BIASED, out_bias=BIASED, qk_norm="width", mlp=mixture, moe=Moe(width="intermediate_size"),
        defaults={"num_experts": 64, "num_experts_per_tok": 8},
    ),
    "granite": Family(qkv_bias=BIASED, out_bias=BIASED, mlp_bias="mlp_bias"),
    "granitemoe": Family(
        qkv_bias=BIASED, out_bias=BIASED, mlp=mixture,
        moe=Moe(experts="num_local_experts", width="intermediate_size", router="router"),
    ),
    "starcoder2": Family(
        mlp=plain_mlp("c_fc", "c_proj"), qkv_bias="use_bias", out_bias="use_bias", mlp_bias="use_bias",
        norm_bias=True, defaults={**TIED, "use_bias": True},
    ),
    "cohere": Family(norms=1, qkv_bias=BIASED, out_bias=BIASED, vectors=per_head_norms, defaults=TIED),
    "cohere2": Family(norms=1, qkv_bias=BIASED, out_bias=BIASED, defaults={**TIED, "head_dim": 128}),
    "glm": Family(mlp=fused_gate_mlp, qkv_bias=BIASED, defaults={"attention_bias": True, "head_dim": 128}),
    "glm4": Family(mlp=fused_gate_mlp, norms=4, qkv_bias=BIASED, defaults={"attention_bias": True, "head_dim": 128}),
    "glm4_moe": Family(qkv_bias=BIASED, mlp=mixture, moe=DEEPSEEK, vectors=glm_norms),
    "stablelm": Family(norm_bias=True, qkv_bias="use_qkv_bias", vectors=per_head_norms),
    "seed_oss": Family(
        qkv_bias=BIASED, out_bias="attention_out_bias", mlp_bias="mlp_bias",
        defaults={"attention_bias": True, "head_dim": 128, "attention_dropout": 0.1},
    ),
    "ernie4_5": Family(
        qkv_bias="use_bias", out_bias="use_bias", mlp_bias="use_bias", defaults={**TIED, "head_dim": 128}
    ),
    "exaone4": Family(qk_norm="head"),
    "apertus": Family(
        mlp=plain_mlp("up_proj", "down_proj"), qkv_bias=BIASED, out_bias=BIASED, mlp_bias="mlp_bias", qk_norm="head",
        vectors=lambda config: 2 * config.layers,
    ),
    "arcee": Family(
        mlp=plain_mlp("up_proj", "down_proj"), qkv_bias=BIASED, out_bias=BIASED, mlp_bias="mlp_bias"
    ),
    "nemotron": Family(
        mlp=plain_mlp("up_proj", "down_proj"), qkv_bias=BIASED, out_bias=BIASED, mlp_bias="mlp_bias", norm_bias=True
    ),
}  # fmt: skip
"""model_type of the text decoder -> what it holds."""

SAME_AS = {
    "gemma3": "gemma3_text",
    "gemma4": "gemma4_text",
    "llama4": "llama4_text",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "smollm": "llama",
}
"""Multimodal models: their text decoder is what is tuned; towers stay frozen and are not counted."""
