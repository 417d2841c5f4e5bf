"""From steps to hours: training and everything else that holds the GPUs. Called by planner."""

import math
from dataclasses import dataclass

from finetune_operator.api.plan import CheckpointPlan
from finetune_operator.api.pools import GPUPool
from finetune_operator.planning.host import is_mounted
from finetune_operator.planning.layouts import Layout, Work
from finetune_operator.planning.saving import FAILURE_SECONDS, GIB, READ_GIB_PER_SECOND, saving
from finetune_operator.planning.speed.generating import read_tokens
from finetune_operator.planning.speed.step import Speed, passes

START_SECONDS = 60.0
"""Container start, imports, process group, CUDA context; the image is taken to be on the node."""

LOAD_GIB_PER_SECOND = 1.0
"""From local disk or a volume to the GPUs of one node."""

QUANTISE_PARAMETERS_PER_SECOND = 1.5e9
"""bitsandbytes on a GPU while it loads: an 8B model takes about five seconds."""

EVALUATIONS = 20
EVALUATION_SHARE = 0.25
"""Evaluations take at most a quarter of the training time, however small the data: then there are fewer than twenty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    """Seconds for which the GPUs are held, by what they are held for."""

    starting: float
    """Start, download, load, quantise."""
    training: float
    evaluating: float
    """Baseline, evaluations while training, metrics, samples."""
    saving: float
    """Checkpoints on the way, and the last one's upload as far as it takes longer than measuring the model."""
    publishing: float
    repeating: float
    """Expected: starting again and lost steps after a node was taken away."""

    @property
    def total(self) -> float:
        """From the first Pod's start to the published result."""
        return sum((self.starting, self.training, self.evaluating, self.saving, self.publishing, self.repeating))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast a run goes."""

    steps: int
    step_seconds: float
    answering_seconds: float
    """In which one model generates answers."""


def evaluate_every_steps(work: Work, steps: int, batch: int) -> int:
    """Return the cadence: the user's, else about twenty per run within a quarter of the training time; 0: never."""
    if not work.evaluation_rows:
        return 0
    if work.resolved.evaluation.every_steps:
        return work.resolved.evaluation.every_steps
    forward_share = 1 / passes(work.method, activation_checkpointing=True)
    one = work.evaluation_rows * work.evaluation_tokens * forward_share
    training = steps * batch * work.mean_tokens
    affordable = math.floor(EVALUATION_SHARE * training / one)
    return math.ceil(steps / max(1, min(EVALUATIONS, affordable)))


def starting_seconds(work: Work, layout: Layout, speed: Speed) -> float:
    """Return the seconds before the first forward pass."""
    model = work.model_bytes / GIB
    download = 0.0 if is_mounted(work) else model / READ_GIB_PER_SECOND
    quantise = work.architecture.num_parameters / QUANTISE_PARAMETERS_PER_SECOND if layout.method == "qlora" else 0.0
    start = START_SECONDS / 4 if speed.shared else START_SECONDS
    return start + download + model / LOAD_GIB_PER_SECOND + quantise


def evaluating_seconds(work: Work, layout: Layout, *, step: float, times: int) -> float:
    """Return the seconds of the evaluations while the model is trained: forward passes over the held-out rows, on all GPUs."""
    return times * _token_seconds(work, layout, step) * _held_out_tokens(work)


def measuring_seconds(work: Work, layout: Layout, *, step: float) -> float:
    """Return the seconds in which one model is measured, before or after training, without those of generating answers."""
    read = read_tokens(work) if work.evaluation_rows else 0.0
    return _token_seconds(work, layout, step) * (_held_out_tokens(work) + read)


def _held_out_tokens(work: Work) -> float:
    return work.evaluation_rows * work.evaluation_tokens


def _token_seconds(work: Work, layout: Layout, step: float) -> float:
    forward = step / passes(layout.method, activation_checkpointing=layout.activation_checkpointing)
    return forward / (layout.global_batch_size * work.mean_tokens)


def duration(
    work: Work, layout: Layout, pool: GPUPool, *, speed: Speed, pace: Pace, checkpoint: CheckpointPlan
) -> Duration:
    """Return the seconds of the whole run."""
    steps, step = pace.steps, pace.step_seconds
    training = steps * step
    every = evaluate_every_steps(work, steps, layout.global_batch_size)
    starting = starting_seconds(work, layout, speed)
    losses = training * layout.replicas / FAILURE_SECONDS[pool.spec.capacity]
    needs = saving(work, layout)
    measuring = measuring_seconds(work, layout, step=step) + pace.answering_seconds
    models = 2 if work.resolved.evaluation.baseline else 1
    return Duration(
        starting=starting,
        training=training,
        evaluating=evaluating_seconds(work, layout, step=step, times=steps // every if every else 0)
        + models * measuring,
        saving=checkpoint.save_seconds * (training // checkpoint.interval_seconds)
        + max(0.0, needs.last_save_seconds - measuring),
        publishing=needs.publish_seconds,
        repeating=losses * (starting + checkpoint.loss_on_reclaim_seconds),
    )


def hours(seconds: int) -> str:
    """Return a time in hours and minutes, or in seconds where it is less than one minute."""
    if seconds < 60:
        return f"{max(1, seconds)} s"
    whole, minutes = divmod(round(seconds / 60), 60)
    return f"{whole} h {minutes:02} min" if whole else f"{minutes} min"
