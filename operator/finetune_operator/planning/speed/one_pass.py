"""What one forward pass of a micro batch costs a GPU: products, memory traffic, experts, eager attention.

A backward pass costs the same again (twice for method full); planning.throughput counts the passes and adds the rest.
"""

from dataclasses import dataclass

from finetune_operator.api.plan import ModelArchitecture
from finetune_operator.planning.layouts import Work
from finetune_operator.planning.speed.constants import Constants

TILE_ROWS = 128
"""Rows of a tile of a grouped product: what an expert is given is rounded up to it, half a tile in the mean."""

EXPERT_ROW_BYTES = 14.0
"""Traffic per (token, expert) pair and column of the hidden state, 16 bit: gathered into the order of the experts
(2 moves), weighted (2), put back in order (2), summed (1). Counted in transformers' grouped_mm_experts_forward."""

ADAPTED_EXPERT_BYTES = 20.0
"""Traffic per expert weight and pass where experts are adapted: PEFT adds the product of A and B, computed in float32, to
the whole stacked weight before it is used. Counted in peft's ParamWrapper, not measured."""

EAGER_SCORE_BYTES = 32.0
"""Traffic per (token, key, head) of attention that is written out: gpt-oss moves 30 bytes (scores, scale, mask, sink, maximum,
softmax, slice), Gemma 2 moves 36 (soft cap, softmax in float32). Counted in transformers' code."""

COMPUTES_EVERY_EXPERT = frozenset({"llama4_text"})
"""transformers' Llama 4 repeats every token for every expert and multiplies by a score that is zero for all but the chosen
ones: the sixteen experts of Scout cost sixteen. The other families group the tokens by expert."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassCost:
    """One forward pass of one micro batch."""

    flops: float
    """Of all products but those of experts."""
    expert_flops: float
    weight_bytes: float
    """Of experts: read while their products are computed, whichever takes longer."""
    traffic_bytes: float
    """Of everything else."""

    def seconds(self, tflops: float, bandwidth_tbps: float, constants: Constants) -> tuple[float, float, float]:
        """Return the times of products, experts and traffic on a GPU that sustains so many TFLOP/s and TB/s."""
        arithmetic, bandwidth = tflops * 1e12 * constants.utilisation, bandwidth_tbps * 1e12
        experts = max(self.expert_flops / arithmetic, self.weight_bytes / bandwidth)
        return self.flops / arithmetic, experts, self.traffic_bytes / bandwidth


def pass_cost(work: Work, micro_batch_size: int, constants: Constants) -> PassCost:
    """Return what a forward pass of a micro batch costs."""
    model, tokens = work.architecture, work.tokens_in(micro_batch_size)
    keys, share = _attended(work, tokens, micro_batch_size)
    attended = keys * share
    pairs = tokens * model.num_attention_heads * model.num_layers
    scores = EAGER_SCORE_BYTES * keys * pairs if work.attention == "eager" else 0.0
    return PassCost(
        flops=2.0 * tokens * _dense_parameters(model) + 4.0 * attended * pairs * model.head_dim,
        expert_flops=2.0 * expert_parameters(model) * _rows_per_expert(model, tokens),
        weight_bytes=2.0 * expert_parameters(model),
        traffic_bytes=tokens * _token_bytes(work, constants) + _weight_traffic(work, constants) + scores,
    )


def _attended(work: Work, tokens: float, micro_batch_size: int) -> tuple[float, float]:
    """Return how many tokens a mean token shares its attention with, and which share of the pairs is computed."""
    if work.attention == "varlen":
        return work.seen_tokens, 0.5
    # packed rows are one long row without padding: attention computes all of it, and a mask hides pairs of different rows
    keys = tokens if work.packed else tokens / micro_batch_size
    # eager attention and the dense mask of packed rows compute every pair, else causal attention skips half of them
    return keys, 1.0 if work.packed or work.attention == "eager" else 0.5


def expert_parameters(model: ModelArchitecture) -> float:
    """Return the weights of all experts of all layers: those that a token does not see are all of them but k of n."""
    unseen = model.num_experts - model.experts_per_token
    if unseen <= 0:
        return 0.0
    return (model.num_parameters - model.num_active_parameters) / unseen * model.num_experts


def _dense_parameters(model: ModelArchitecture) -> float:
    """Weights that every token is multiplied with: the input embedding is looked up, not multiplied."""
    embedding = 0 if model.tied_embeddings else model.vocab_size * model.hidden_size
    share = model.experts_per_token / model.num_experts if model.num_experts else 0.0
    return max(0.0, model.num_active_parameters - embedding - share * expert_parameters(model))


def _copies(model: ModelArchitecture) -> int:
    """How many experts compute a token."""
    return model.num_experts if model.model_type in COMPUTES_EVERY_EXPERT else model.experts_per_token


def _rows_per_expert(model: ModelArchitecture, tokens: float) -> float:
    """Rows that a product of one expert computes: its share of the tokens, and what rounding to tiles adds."""
    if not model.num_experts:
        return 0.0
    rows = tokens * _copies(model) / model.num_experts
    return rows if model.model_type in COMPUTES_EVERY_EXPERT else rows + TILE_ROWS / 2


def _token_bytes(work: Work, constants: Constants) -> float:
    """Bytes of one token through all layers beside the matrix products."""
    model, copies = work.architecture, _copies(work.architecture)
    outside = 4 * model.hidden_size + 2 * model.num_attention_heads * model.head_dim
    inner = 2 * model.intermediate_size * max(1, copies)
    moved = constants.traffic * 4 * (outside + inner) + EXPERT_ROW_BYTES * copies * model.hidden_size
    if work.method != "full":
        casts = 1.0 if work.casts_inputs else constants.uncast_adapter_share
        # adapters on attention alone leave the experts as they are
        adapted = outside if model.num_experts else outside + inner
        moved += casts * constants.adapter_traffic * 4 * adapted
    return moved * model.num_layers


def _weight_traffic(work: Work, constants: Constants) -> float:
    """Bytes per pass, however few the tokens: 4-bit weights made 16-bit, the changes of adapted experts."""
    model, moved = work.architecture, 0.0
    if work.method == "qlora":
        moved += constants.dequantise_bytes * (model.num_parameters - model.num_embedding_parameters)
    lora = work.resolved.lora
    if lora is not None and lora.experts:
        moved += ADAPTED_EXPERT_BYTES * expert_parameters(model)
    return moved
