"""How long base and tuned model take to answer: prompts of the samples, and held-out rows for the metrics. Called by duration."""

import math

from finetune_operator.api.pools import GPUPool
from finetune_operator.planning.layouts import Layout, Work
from finetune_operator.planning.speed.constants import DEFAULT
from finetune_operator.planning.speed.step import Speed, gather_once_seconds, link_bytes_per_second

SECONDS_PER_LAYER = 0.00125
"""A token through one layer of an adapted model, kernel by kernel: 0.04 s for the 32 layers of an 8B model. Not measured by us."""

DEQUANTISED_BYTES = 4.5
"""Traffic per 4-bit weight and token: read, written in 16 bit, read again."""


def token_seconds(work: Work, layout: Layout, pool: GPUPool, speed: Speed) -> float:
    """Return the time of one more token of every answer of a batch: launches, or reading all weights; ZeRO-3 gathers them."""
    model = work.architecture
    moved = (DEQUANTISED_BYTES if layout.method == "qlora" else 2.0) * model.num_active_parameters
    link = link_bytes_per_second(layout, pool.spec.reached, DEFAULT)
    reading = moved / (speed.bandwidth_tbps * 1e12)
    return max(SECONDS_PER_LAYER * model.num_layers, reading) + gather_once_seconds(work, layout, link)


def generated_tokens(work: Work, layout: Layout, at_once: int) -> int:
    """Return how many times one GPU makes a token for each answer of a batch, for one model; no answer is taken to end early."""
    evaluation = work.resolved.evaluation
    samples = evaluation.samples
    processes = layout.gpus
    batches = math.ceil(work.generated_answers / (at_once * processes))
    asked = math.ceil(len(samples.prompts) / processes) * samples.max_new_tokens if samples else 0
    return asked + batches * evaluation.max_answer_tokens


def generating_seconds(work: Work, layout: Layout, pool: GPUPool, *, speed: Speed, at_once: int) -> float:
    """Return the seconds of all answers of one model."""
    return generated_tokens(work, layout, at_once) * token_seconds(work, layout, pool, speed)


def read_tokens(work: Work) -> float:
    """Return the tokens that each model reads for the metrics: prompts, a row for each of its labels, and texts of lm-eval."""
    return (work.generated_answers + work.label_answers) * work.evaluation_tokens + work.task_tokens
