"""The memory of our own trainer: from an architecture and a layout to a MemoryScenario. Called by the planner.

The trainer's rules: bfloat16 or 4-bit base and float32 adapters under autocast (lora, qlora), bfloat16 ones under DeepSpeed,
float32 masters unless bf16 is asked for (full), fused AdamW, non-reentrant checkpointing, TRL's tiled loss, DeepSpeed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from finetune_operator.api.plan import ModelArchitecture
from finetune_operator.planning.memory.scenario import (
    AdapterLoad,
    Attention,
    LossKernel,
    MemoryScenario,
    Method,
    Optimizer,
    Shape,
    Sharding,
)
from finetune_operator.planning.models.adapter import Adapter, adapted_linears, adapter_parameters
from finetune_operator.planning.models.architecture import caps_scores, linears, norms, sliding_layers
from finetune_operator.planning.models.attention import Attention as AttentionChoice
from finetune_operator.planning.models.families import Linear


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerLayout:
    """What our trainer is told, as far as memory depends on it."""

    method: Method
    adapter: Adapter | None
    """None for method full."""
    dropout: bool = False
    trains_embeddings: bool = False
    """modules_to_save."""
    precision: Literal["mixed", "bf16"] = "bf16"
    """Of full fine-tuning: float32 masters, or bfloat16 only."""
    optimizer: Literal["adamw", "adamw-8bit", "paged-adamw-8bit"] = "adamw"
    gpus: int = 1
    zero_stage: Literal[0, 2, 3] = 0
    offload: Literal["none", "optimizer", "all"] = "none"
    activation_checkpointing: bool = True
    micro_batch_size: int = 1
    sequence_length: int
    accumulates: bool = False
    packed: bool = False
    attention: AttentionChoice = "sdpa"
    loss_kernel: Literal["tiled", "full"] = "tiled"
    quantized_experts: bool = True
    """The trainer stores stacked experts in NF4 too, which stock transformers does not."""


FUSED: dict[str, Optimizer] = {
    "adamw": "adamw-fused", "adamw-8bit": "adamw-8bit", "paged-adamw-8bit": "paged-adamw-8bit",
}  # fmt: skip
KERNELS: dict[str, LossKernel] = {"tiled": "tiled", "full": "stock"}


def scenario_for(architecture: ModelArchitecture, layout: TrainerLayout) -> MemoryScenario:
    """Return what memory.estimate.estimate needs to know about a run of our trainer."""
    # Asked for with an adapter too, mixed means a float32 base; a 4-bit one has no masters.
    masters = layout.method != "qlora" and layout.precision == "mixed"
    deepspeed = layout.zero_stage > 0
    attention, windows = _attention(architecture, layout)
    return MemoryScenario(
        shape=shape_of(architecture),
        method=layout.method,
        quantization="nf4-double" if layout.method == "qlora" else "none",
        quantized_experts=layout.quantized_experts,
        adapter=load_of(architecture, layout),
        trains_embeddings=layout.trains_embeddings,
        float32_weights=masters and not deepspeed,
        autocast=masters and not deepspeed,
        float32_residual=False,
        sequence_length=layout.sequence_length,
        micro_batch_size=layout.micro_batch_size,
        accumulates=layout.accumulates,
        batching="packed" if layout.packed else "fixed",
        activation_checkpointing=layout.activation_checkpointing,
        activation_offload=False,
        parameter_offload=layout.offload == "all",
        optimizer_offload=layout.offload != "none",
        optimizer=FUSED[layout.optimizer],
        optimizer_in_backward=False,
        sharding=_sharding(layout),
        num_gpus=layout.gpus,
        loss_kernel=KERNELS[layout.loss_kernel],
        attention=attention,
        masked_windows=windows,
        compiled=False,
        objective="sft",
        reference="none",
    )


def _attention(architecture: ModelArchitecture, layout: TrainerLayout) -> tuple[Attention, bool]:
    """Return what attention costs, and whether only layers that see a window have a mask.

    Variable-length attention has none. Plain sdpa needs none only where one row sees all that came before.
    """
    if layout.attention != "sdpa":
        return "eager" if layout.attention == "eager" else "flash", False
    if layout.packed or layout.micro_batch_size > 1:
        return "sdpa-mask", False
    sliding, window = sliding_layers(architecture)
    masked = sliding > 0 and layout.sequence_length >= window
    return "sdpa-mask" if masked else "flash", masked


def _sharding(layout: TrainerLayout) -> Sharding:
    if layout.zero_stage == 0:
        return "ddp" if layout.gpus > 1 else "none"
    return "zero2" if layout.zero_stage == 2 else "zero3"


def shape_of(architecture: ModelArchitecture) -> Shape:
    """Return the widths of a model. Remembered by its config: the planner asks thousands of times."""
    return _shape(architecture.config, _Held(architecture))


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """Carries a value past lru_cache's key: all holders are equal, the config beside it is the key."""

    architecture: ModelArchitecture

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=64)
def _shape(config: str, held: _Held) -> Shape:  # noqa: ARG001  # config is the key of the cache
    a = held.architecture
    parts = linears(a)
    per_layer, qk_norm = norms(a)
    width = mlp_width(a, parts)
    query, key_value = attention_widths(a, parts)
    return Shape(
        num_parameters=a.num_parameters,
        num_embedding_parameters=a.num_embedding_parameters,
        num_expert_parameters=sum(part.num_parameters for part in parts if part.experts),
        hidden_size=a.hidden_size,
        num_layers=a.num_layers,
        num_heads=a.num_attention_heads,
        query_width=query,
        key_value_width=key_value,
        mlp_width=width,
        backward_width=width,
        widest_mlp=max((max(part.inputs, part.outputs) for part in parts if part.role in ("mlp", "expert")), default=0),
        vocab_size=a.vocab_size,
        gated=any("gate" in part.name for part in parts if part.role in ("mlp", "expert")),
        tied=a.tied_embeddings,
        qk_norm=qk_norm,
        extra_norms=per_layer - 2,
        float32_scales=a.model_type.startswith("gemma"),
        capped_scores=caps_scores(a),
        sliding_layers=sliding_layers(a)[0],
        routed_width=a.experts_per_token * a.hidden_size,
    )


def mlp_width(architecture: ModelArchitecture, parts: tuple[Linear, ...]) -> int:
    """Return the width of the MLPs that one token passes in the widest layer."""
    ends = [part for part in parts if part.outputs == architecture.hidden_size and part.role == "mlp"]
    dense = max((part.inputs for part in ends if not part.name.startswith("shared")), default=0)
    shared = max((part.inputs for part in ends if part.name.startswith("shared")), default=0)
    routed = architecture.experts_per_token * architecture.intermediate_size if architecture.num_experts else 0
    return max(dense, routed + shared)


def attention_widths(architecture: ModelArchitecture, parts: tuple[Linear, ...]) -> tuple[int, int]:
    """Return the widths of queries, and of keys or values, as the attention kernel sees them."""
    latent = next((part for part in parts if part.name == "kv_b_proj"), None)
    if latent is not None:
        queries = max(part.outputs for part in parts if part.name in ("q_b_proj", "q_proj"))
        return queries, latent.outputs // 2
    heads, width = architecture.num_attention_heads, architecture.head_dim
    return heads * width, architecture.num_key_value_heads * width


def load_of(architecture: ModelArchitecture, layout: TrainerLayout) -> AdapterLoad | None:
    """Return what the adapter adds, None for full fine-tuning."""
    if layout.adapter is None:
        return None
    # DeepSpeed's engine casts the whole model to its one type.
    float32 = layout.zero_stage == 0
    casts = float32 and layout.method == "lora" and layout.adapter.dora  # whose layers need the adapter's type
    return _load(architecture.config, _Held(architecture), layout.adapter, float32, casts, layout.dropout)


@lru_cache(maxsize=256)
def _load(config: str, held: _Held, adapter: Adapter, float32: bool, casts: bool, dropout: bool) -> AdapterLoad:  # noqa: ARG001  # as above
    a = held.architecture
    parts = adapted_linears(a, adapter)
    plain = [part for part in parts if not part.experts]
    normed = max(((part.inputs, part.outputs) for part in plain), default=(0, 0))
    whole = plain if adapter.dora else []
    whole += [part for part in parts if part.experts]
    return AdapterLoad(
        num_parameters=adapter_parameters(a, adapter),
        input_width=sum(part.inputs * part.count for part in plain) // a.num_layers,
        distinct_width=distinct_inputs(a, plain),
        normed_inputs=normed[0],
        normed_outputs=normed[1],
        output_width=sum(part.outputs * part.count for part in plain) // a.num_layers,
        adapts_down=any(part.role == "mlp" and part.outputs == a.hidden_size for part in plain),
        dtype="float32" if float32 else "bfloat16",
        casts_inputs=casts,
        dropout=dropout,
        dora=adapter.dora,
        adalora=adapter.adalora,
        materialized_weights=sum(part.inputs * part.outputs * part.count for part in whole) // a.num_layers,
    )


def distinct_inputs(architecture: ModelArchitecture, parts: Sequence[Linear]) -> int:
    """Return the widths of the different tensors that the matrices of one layer read, the attention's output apart."""
    hidden = architecture.hidden_size
    readers = {
        (part.role, part.outputs == hidden and part.name.startswith(("o_proj", "down", "dense", "c_proj"))): part
        for part in parts
    }
    return sum(part.inputs for (role, ends), part in readers.items() if role != "attention" or not ends)
