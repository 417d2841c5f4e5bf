"""The memory of answering held-out rows: keys and values of every token, and the widest layer as it reads the prompts.

Called by candidate_memory. Nothing is kept for a backward pass, and gradients are gone; optimizer states stay.
"""

from dataclasses import replace

from finetune_operator.api.plan import ModelArchitecture
from finetune_operator.planning.memory.constants import GIB
from finetune_operator.planning.memory.estimate import MemoryEstimate

MOST_AT_ONCE = 32
"""More answers at once are hardly faster: all wait for the longest."""

SHARE_USED = 0.8
"""Of what is free: transformers' cache grows by copying one layer at a time."""


def answer_gib(model: ModelArchitecture, tokens: int) -> float:
    """Return the memory of one answer whose prompt and text have so many tokens."""
    cache = 2 * 2 * model.num_layers * model.num_key_value_heads * model.head_dim
    experts = max(1, model.experts_per_token)
    working = 2 * (8 * model.hidden_size + 3 * model.intermediate_size * experts)
    logits = 8 * model.vocab_size  # of the last token of the prompt, float32 twice
    return (tokens * (cache + working) + logits) / GIB


def resident_gib(memory: MemoryEstimate) -> float:
    """Return what is there while answers are generated."""
    return (
        memory.weights_gib + memory.adapter_gib + memory.optimizer_gib + memory.gathers_gib + memory.slack_gib
        + memory.context_gib
    )  # fmt: skip


def with_one_answer(memory: MemoryEstimate, answer: float) -> MemoryEstimate:
    """Return an estimate in which one answer at a time has room."""
    missing = resident_gib(memory) + answer - memory.card_gib
    return replace(memory, activations_gib=memory.activations_gib + missing) if missing > 0 else memory


def answers_at_once(memory: MemoryEstimate, answer: float, *, usable_gib: float) -> int:
    """Return how many rows a GPU answers at once in what training leaves free on the card."""
    free = usable_gib / memory.margin - resident_gib(memory)
    return max(1, min(MOST_AT_ONCE, int(SHARE_USED * free / answer)))
