"""What memory depends on: the question that estimate answers. Built by scenarios (files) and our_trainer (planner).

Everything is whole here: no None, no defaults from elsewhere. Widths are numbers of elements, never bytes.
"""

from dataclasses import dataclass
from typing import Literal

Method = Literal["full", "lora", "qlora"]
Quantization = Literal["none", "nf4", "nf4-double", "int8", "gptq-int4"]
Optimizer = Literal["adamw", "adamw-fused", "adamw-8bit", "paged-adamw", "paged-adamw-8bit", "adafactor"]
Sharding = Literal["none", "ddp", "zero2", "zero3", "fsdp"]
LossKernel = Literal["stock", "bf16", "in-place", "chunked", "litgpt", "liger", "cce", "tiled"]
Attention = Literal["flash", "sdpa-mask", "eager"]
Batching = Literal["packed", "fixed", "padded-variable"]
Objective = Literal["sft", "cpt", "dpo", "orpo", "kto"]
Reference = Literal["none", "disabled-adapter", "copy", "precomputed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The widths of a decoder, as memory needs them."""

    num_parameters: int
    num_embedding_parameters: int
    """Embeddings and head: they stay 16 bit when the rest is quantised."""
    num_expert_parameters: int
    """Inside stacked experts: stock bitsandbytes does not quantise them."""
    hidden_size: int
    num_layers: int
    num_heads: int
    query_width: int
    key_value_width: int
    mlp_width: int
    """Of the MLPs that one token passes: one dense, or the chosen and the shared experts together."""
    backward_width: int
    """Of the MLPs that go backward at once: the dense one, one expert's share in a loop over experts, or all chosen."""
    widest_mlp: int
    """Of the largest matrix of an MLP."""
    vocab_size: int
    gated: bool
    tied: bool
    qk_norm: bool = False
    extra_norms: int = 0
    """Norms over the residual stream beyond two per layer (Gemma)."""
    float32_scales: bool = False
    """Norms multiply by their scale in float32, before they cast back (Gemma)."""
    capped_scores: bool = False
    """Attention scores and logits pass a tanh (Gemma 2): eager attention keeps its result, and so does the head."""
    sliding_layers: int = 0
    """Layers that see a window of tokens alone."""
    routed_width: int = 0
    """Copies of the residual stream that stacked experts gather, one per chosen expert."""

    @property
    def num_linear_parameters(self) -> int:
        """Everything but embeddings and head."""
        return max(0, self.num_parameters - self.num_embedding_parameters)

    @property
    def num_table_parameters(self) -> int:
        """One vocabulary table: the head, or the embedding."""
        return self.vocab_size * self.hidden_size

    @property
    def num_layer_parameters(self) -> int:
        """One layer, of a decoder whose layers are alike."""
        return self.num_linear_parameters // self.num_layers


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterLoad:
    """What an adapter adds to a model of some shape."""

    num_parameters: int
    input_width: int
    """Inputs of all adapted matrices of one layer, each counted."""
    distinct_width: int = 0
    """The same where matrices that read the same tensor count once, and one that reads the attention's output (which the
    kernel keeps anyway) not at all; 0: not known."""
    output_width: int = 0
    """Outputs of all adapted matrices of one layer; 0: not known."""
    adapts_down: bool
    """The MLP's last projection has an adapter."""
    dtype: Literal["float32", "bfloat16"]
    casts_inputs: bool
    """Each adapted matrix casts its input to the adapter's float32, as PEFT does beside 16-bit matrices unless it is told not to, as
    our trainer does; beside bitsandbytes' 4-bit ones it leaves that to autocast (peft/tuners/lora/bnb.py)."""
    dropout: bool = False
    dora: bool = False
    normed_inputs: int = 0
    """Inputs of the adapted matrix whose norm DoRA needs most for: the one with most inputs, then outputs."""
    normed_outputs: int = 0
    """Outputs of the same."""
    adalora: bool = False
    """Keeps importance scores of all its parameters."""
    materialized_weights: int = 0
    """Weights of one layer whose update is computed whole: DoRA's norms, and adapters on stacked experts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryScenario:
    """One training run on one GPU of several, as its memory sees it."""

    shape: Shape
    method: Method
    quantization: Quantization
    quantized_experts: bool
    adapter: AdapterLoad | None
    """None for method full."""
    trains_embeddings: bool
    float32_weights: bool
    """Resident weights are float32: masters of full fine-tuning, or a float32 load."""
    autocast: bool
    """Computed in bfloat16 from weights of another type."""
    float32_residual: bool
    sequence_length: int
    micro_batch_size: int
    accumulates: bool
    """More than one micro batch per step: gradients and activations coexist."""
    batching: Batching
    activation_checkpointing: bool
    activation_offload: bool
    parameter_offload: bool
    optimizer_offload: bool
    optimizer: Optimizer
    optimizer_in_backward: bool
    sharding: Sharding
    num_gpus: int
    loss_kernel: LossKernel
    attention: Attention
    masked_windows: bool = False
    """With sdpa-mask: only layers that see a window of tokens have one."""
    compiled: bool
    objective: Objective
    reference: Reference

    @property
    def rows(self) -> int:
        """Rows in one forward pass: preference objectives compute the chosen and the rejected answer together."""
        return self.micro_batch_size * (2 if self.objective in ("dpo", "orpo") else 1)

    @property
    def tokens(self) -> int:
        """Tokens in one forward pass."""
        return self.rows * self.sequence_length

    @property
    def deepspeed(self) -> bool:
        """ZeRO by DeepSpeed."""
        return self.sharding in ("zero2", "zero3")

    @property
    def weight_shards(self) -> int:
        """GPUs that share the weights."""
        return self.num_gpus if self.sharding in ("zero3", "fsdp") else 1

    @property
    def state_shards(self) -> int:
        """GPUs that share gradients and optimizer states."""
        return self.num_gpus if self.sharding in ("zero2", "zero3", "fsdp") else 1
