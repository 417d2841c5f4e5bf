"""Every parameter count of planning.architecture against transformers' own classes, and PEFT's own injection.

Models are built on torch's meta device: shapes without memory. Sizes are small but uneven: a wrong factor shows.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from finetune_operator.planning.models.adapter import Adapter, adapted_linears, adapter_parameters
from finetune_operator.planning.models.architecture import architecture, linears
from finetune_operator.planning.models.attention import attention_of
from finetune_operator.planning.models.catalogue import catalogue_entry
from finetune_operator.planning.models.family_table import FAMILIES

pytestmark = [
    pytest.mark.trainer,
    # peft 0.21 asks transformers 5.23 by the old name of activation checkpointing.
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    # peft 0.21 prepares ranks for stacked experts whenever a gate_proj is named, and then finds that none was meant.
    pytest.mark.filterwarnings("ignore:The following .*_pattern keys did not match:RuntimeWarning"),
    # peft 0.21 warns that it stores a copy of a tied embedding; nothing is stored here.
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
]

SMALL = {
    "vocab_size": 1024, "hidden_size": 96, "intermediate_size": 208, "num_hidden_layers": 4, "num_attention_heads": 6,
    "num_key_value_heads": 2, "max_position_embeddings": 512,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
MIXTURE = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 56}
LATENT = {
    "q_lora_rank": 40, "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16,
    "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 56, "n_shared_experts": 2,
    "first_k_dense_replace": 1, "n_group": 2, "topk_group": 1, "num_key_value_heads": 6,
}  # fmt: skip
DELTA = {
    "head_dim": 32, "linear_num_value_heads": 8, "linear_num_key_heads": 4, "linear_key_head_dim": 16,
    "linear_value_head_dim": 24, "linear_conv_kernel_dim": 4,
}  # fmt: skip
GEMMA4 = {"head_dim": 24, "global_head_dim": 48, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 1024,
          "num_hidden_layers": 12}  # fmt: skip

CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("llama", "llama", {}),
    ("llama-3.2 tied", "llama", {"tie_word_embeddings": True, "head_dim": 24}),
    ("llama biases", "llama", {"attention_bias": True, "mlp_bias": True}),
    ("llama-4 all mixture", "llama4_text", {"num_local_experts": 4, "intermediate_size_mlp": 400, "head_dim": 16}),
    ("llama-4 interleaved", "llama4_text",
     {"num_local_experts": 4, "intermediate_size_mlp": 400, "interleave_moe_layer_step": 2, "head_dim": 24}),
    ("mistral", "mistral", {}),
    ("mistral head size", "mistral", {"head_dim": 32}),
    ("ministral-3", "ministral3", {"head_dim": 24}),
    ("mixtral", "mixtral", {"num_local_experts": 4}),
    ("qwen2", "qwen2", {}),
    ("qwen2 tied", "qwen2", {"tie_word_embeddings": True}),
    ("qwen3", "qwen3", {"head_dim": 32}),
    ("qwen2-moe", "qwen2_moe", {**MIXTURE, "shared_expert_intermediate_size": 72}),
    ("qwen2-moe sparse", "qwen2_moe", {**MIXTURE, "shared_expert_intermediate_size": 72, "decoder_sparse_step": 2}),
    ("qwen3-moe", "qwen3_moe", {**MIXTURE, "head_dim": 32}),
    ("qwen3-moe dense layers", "qwen3_moe", {**MIXTURE, "mlp_only_layers": [0, 1]}),
    ("qwen3-next", "qwen3_next", {**MIXTURE, **DELTA, "shared_expert_intermediate_size": 72}),
    ("qwen3.5", "qwen3_5_text", {**DELTA, "num_hidden_layers": 8}),
    ("qwen3.5-moe", "qwen3_5_moe_text", {**MIXTURE, **DELTA, "shared_expert_intermediate_size": 72}),
    ("gemma", "gemma", {"head_dim": 24}),
    ("gemma-2", "gemma2", {"head_dim": 24}),
    ("gemma-3", "gemma3_text", {"head_dim": 24}),
    ("gemma-4", "gemma4_text", GEMMA4),
    ("gemma-4 shared keys", "gemma4_text", {**GEMMA4, "num_kv_shared_layers": 5, "use_double_wide_mlp": True}),
    ("gemma-4 mixture", "gemma4_text",
     {**GEMMA4, "hidden_size_per_layer_input": 0, "enable_moe_block": True, "num_experts": 8, "top_k_experts": 2,
      "moe_intermediate_size": 56, "attention_k_eq_v": True, "num_global_key_value_heads": 1}),
    ("phi-2", "phi", {}),
    ("phi norms", "phi", {"qk_layernorm": True}),
    ("phi-4", "phi3", {}),
    ("phi-3.5-moe", "phimoe", {"num_local_experts": 4, "attention_bias": True, "lm_head_bias": True}),
    ("smollm-3", "smollm3", {}),
    ("deepseek-v2", "deepseek_v2", LATENT),
    ("deepseek-v2-lite", "deepseek_v2", {**LATENT, "q_lora_rank": None}),
    ("deepseek-v3", "deepseek_v3", LATENT),
    ("gpt-oss", "gpt_oss", {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 24}),
    ("falcon-7b", "falcon", {"ffn_hidden_size": 384}),
    ("falcon-40b", "falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    ("falcon-1b", "falcon", {"multi_query": False, "parallel_attn": False, "bias": True, "alibi": True}),
    ("pythia", "gpt_neox", {}),
    ("olmo", "olmo", {}),
    ("olmo-2", "olmo2", {}),
    ("olmo-3", "olmo3", {}),
    ("olmoe", "olmoe", {"num_experts": 6, "num_experts_per_tok": 2}),
    ("granite", "granite", {"tie_word_embeddings": True}),
    ("granite-moe", "granitemoe", {"num_local_experts": 4}),
    ("starcoder-2", "starcoder2", {}),
    ("command-r", "cohere", {}),
    ("command-r+", "cohere", {"use_qk_norm": True}),
    ("command-r7b", "cohere2", {"head_dim": 24}),
    ("glm-4", "glm", {"head_dim": 24}),
    ("glm-4-0414", "glm4", {"head_dim": 24}),
    ("glm-4.5-air", "glm4_moe", {**LATENT, "num_key_value_heads": 2, "head_dim": 24, "use_qk_norm": True}),
    ("stablelm", "stablelm", {}),
    ("stablelm-2", "stablelm", {"use_qkv_bias": True, "qk_layernorm": True}),
    ("seed-oss", "seed_oss", {"head_dim": 24}),
    ("ernie-4.5", "ernie4_5", {"head_dim": 24}),
    ("exaone-4", "exaone4", {}),
    ("apertus", "apertus", {}),
    ("afm", "arcee", {}),
    ("nemotron", "nemotron", {"head_dim": 24}),
]  # fmt: skip

ADAPTERS = (
    Adapter(lora_rank=8),
    Adapter(lora_rank=4, targets="attention"),
    Adapter(lora_rank=16, targets="custom", target_modules=("q_proj", "v_proj", "query_key_value", "qkv_proj")),
    Adapter(lora_rank=8, dora=True),
)


def model_of(kind: str, overrides: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Build a model on the meta device; return it with the config.json that transformers would write."""
    import torch  # noqa: PLC0415
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM  # noqa: PLC0415

    settings = {**SMALL, **overrides}
    if kind == "falcon":
        settings.pop("num_key_value_heads")
        settings.pop("intermediate_size")
    config = CONFIG_MAPPING[kind](**settings)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return model, json.loads(config.to_json_string(use_diff=True)) | {"model_type": kind}


def leaf(name: str) -> str:
    """Return the name of a module as planning.architecture spells it."""
    parts = name.split(".")
    inside = len(parts) > 1 and parts[-2] in ("experts", "shared_expert", "shared_experts")
    return ".".join(parts[-2:]) if inside else parts[-1]


def matrices_of(model: Any) -> dict[tuple[str, int, int], int]:
    """Count torch.nn.Linear modules, routers and stacked expert tensors by name and shape."""
    import torch  # noqa: PLC0415

    counts: dict[tuple[str, int, int], int] = defaultdict(int)
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            counts[leaf(name), module.in_features, module.out_features] += 1
    for name, parameter in model.named_parameters():
        if re.search(r"\.(gate|router)\.weight$", name) and not isinstance(
            model.get_submodule(name.removesuffix(".weight")), torch.nn.Linear
        ):
            counts[leaf(name.removesuffix(".weight")), parameter.shape[1], parameter.shape[0]] += 1
        elif parameter.dim() == 3 and "experts." in name:
            counts[leaf(name), 0, parameter.shape[1] * parameter.shape[2]] += parameter.shape[0]
    return dict(counts)


def expected_matrices(shape: Any) -> dict[tuple[str, int, int], int]:
    """Give ours in the same form: a stacked tensor by its size, since families disagree about which side is first."""
    counts: dict[tuple[str, int, int], int] = defaultdict(int)
    for part in linears(shape):
        key = (part.name, 0, part.inputs * part.outputs) if part.experts else (part.name, part.inputs, part.outputs)
        counts[key] += part.count
    return dict(counts)


def targets_of(model: Any, adapter: Adapter) -> Any:
    """Say the target set to PEFT: its own words for a dense model, names without an MLP's for a mixture.

    For mixtures PEFT turns every gate_proj, up_proj and down_proj into adapters on the stacked experts of transformers
    5, however it is named, and its all-linear adapts routers.
    """
    import torch  # noqa: PLC0415

    if adapter.targets == "custom":
        return list(adapter.target_modules)
    mixture = any("experts." in name for name, _ in model.named_parameters())
    if adapter.targets == "all-linear" and not mixture:
        return "all-linear"
    left_out = re.compile(r"(router|router\.proj|\.gate|shared_expert_gate|lm_head|\.(gate|up|down)_proj)$")
    attention = re.compile(r"\.(self_attn|attention|self_attention|linear_attn)\.")
    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    return [
        name
        for name in names
        if attention.search(name) or (adapter.targets == "all-linear" and not left_out.search(name))
    ]


def injected(model: Any, adapter: Adapter) -> int:
    """Let PEFT inject the adapter and count what it made trainable."""
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415

    config = LoraConfig(
        r=adapter.lora_rank, target_modules=targets_of(model, adapter), use_dora=adapter.dora, task_type="CAUSAL_LM"
    )
    tuned = get_peft_model(model, config, low_cpu_mem_usage=True)
    count = sum(parameter.numel() for name, parameter in tuned.named_parameters() if "lora_" in name)
    tuned.unload()
    return count


def vocabulary_parameters(model: Any) -> int:
    """Count embeddings and head, once where they are tied."""
    embeddings = [module for module in model.modules() if "Embedding" in type(module).__name__]
    tables = [module.weight for module in embeddings if hasattr(module, "weight")]
    shared = {id(table): table.numel() for table in (*tables, *model.get_output_embeddings().parameters())}
    return sum(shared.values())


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Two processes with two threads each are many times slower than with one."""
    import torch  # noqa: PLC0415

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_every_family_has_a_case() -> None:
    """A family that nobody compares may count anything."""
    assert {kind for _, kind, _ in CASES} == set(FAMILIES)
    assert len(CASES) >= 30


@pytest.mark.parametrize(("kind", "overrides"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_every_count_is_the_one_of_transformers(kind: str, overrides: dict[str, Any]) -> None:
    """Total, embeddings, every matrix by name, and LoRA as PEFT injects it are equal, not close."""
    model, written = model_of(kind, overrides)
    shape = architecture(written)

    matrices = matrices_of(model)
    if shape.tied_embeddings:
        del matrices["lm_head", shape.hidden_size, shape.vocab_size]
    assert expected_matrices(shape) == matrices
    assert shape.num_parameters == sum(parameter.numel() for parameter in model.parameters())
    assert shape.num_embedding_parameters == vocabulary_parameters(model)
    assert (attention_of(shape, packed=True, noise=False) != "eager") == model._supports_sdpa
    for adapter in ADAPTERS:
        if adapted_linears(shape, adapter):
            assert adapter_parameters(shape, adapter) == injected(model, adapter), adapter


@pytest.mark.parametrize(
    ("name", "kind"), [("Qwen/Qwen3.5-9B", "qwen3_5_text"), ("Qwen/Qwen3.5-35B-A3B", "qwen3_5_moe_text")]
)
def test_catalogue_entries_from_transformers_defaults_are_these(name: str, kind: str):
    """Their source is the class, so every figure must be the class's."""
    from transformers import CONFIG_MAPPING  # noqa: PLC0415

    entry = catalogue_entry(name)
    defaults = CONFIG_MAPPING[kind]().to_dict()

    assert entry is not None
    assert {key: defaults[key] for key in entry.config} == entry.config
    assert entry.architecture.num_parameters == architecture(defaults).num_parameters
