"""Reports of the Pods as status fields: preflight, progress, evaluation, artifacts, memory. Called by record."""

from datetime import datetime

from finetune_contract import (
    Artifact,
    EvaluationResult,
    MetricResult,
    Outcome,
    PreflightReport,
    Progress,
    Sample,
    shorten,
)
from pydantic import ValidationError

from finetune_operator.api.plan import ModelArchitecture, Plan
from finetune_operator.api.preflight import PreflightStatus
from finetune_operator.api.published import ArtifactStatus, EvaluationStatus, MemoryStatus, MetricStatus, SampleStatus
from finetune_operator.api.status import ProgressStatus
from finetune_operator.lifecycle.numbers import decimal, rate, unsigned
from finetune_operator.lifecycle.times import timestamp

MOST_WARNINGS, MOST_SAMPLES, MOST_ARTIFACTS, MOST_METRICS = 16, 8, 8, 16
ENDS = ("", "_low", "_high")
TEXT_CHARACTERS, SHORT_TEXT_CHARACTERS = 4096, 256

PUBLISHING = "publishing"
"""The trainer's word for its last phase: replica 0 uploads the result, and the others have ended."""


def preflight_status(report: PreflightReport, shape: ModelArchitecture) -> PreflightStatus:
    """Return what preflight found."""
    own = {"generation", "spec_digest", "truncated_percent", "warnings", "architecture"}
    copied = set(PreflightStatus.model_fields) - own
    rows = max(1, report.examples)
    return PreflightStatus.model_validate(
        {name: getattr(report, name) for name in copied}
        | {
            "truncated_percent": f"{100 * report.truncated_rows / rows:.1f}",
            "warnings": list(report.warnings)[:MOST_WARNINGS],
            "architecture": shape,
        }
    )


def progress_status(progress: Progress, at: datetime) -> ProgressStatus:
    """Return the trainer's last report."""
    percent = 100 * progress.step // max(1, progress.total_steps)
    return ProgressStatus(
        phase=shorten(progress.phase, 64),
        step=max(0, progress.step),
        total_steps=max(0, progress.total_steps),
        percent=min(100, max(0, percent)),
        epoch=unsigned(progress.epoch, 2) or "0",
        loss=decimal(progress.loss, 4),
        eval_loss=decimal(progress.eval_loss, 4),
        learning_rate=rate(progress.learning_rate),
        **speed_fields(progress),
        peak_memory_gib=unsigned(progress.peak_memory_gib, 2),
        seconds_remaining=None if progress.seconds_remaining is None else max(0, progress.seconds_remaining),
        last_report_time=timestamp(at),
    )


def publishing(progress: ProgressStatus | None, step: int, at: datetime) -> ProgressStatus:
    """Return the last report of a run whose training is complete, and whose result is still on its way."""
    known = progress or ProgressStatus(step=step, total_steps=step, percent=100, last_report_time=timestamp(at))
    return known.model_copy(update={"phase": PUBLISHING, "step": max(step, known.step)})


def restarted(progress: ProgressStatus | None) -> ProgressStatus | None:
    """Return the last report of an earlier attempt: what it says about speed and activity is over."""
    gone = {
        "phase": "", "tokens_per_second": None, "model_flop_utilisation": None, "padding_share": None,
        "seconds_remaining": None,
    }  # fmt: skip
    return None if progress is None else progress.model_copy(update=gone)


def done(progress: ProgressStatus | None, outcome: Outcome) -> ProgressStatus:
    """Return the last report of a run that is published, with what was measured of the result; one that stopped early is done too."""
    known = progress or ProgressStatus(step=outcome.step, total_steps=outcome.step, percent=100)
    measured = outcome.evaluation
    changes = {
        "phase": "", "step": outcome.step, "percent": 100, "seconds_remaining": None, "last_report_time": None,
        "loss": decimal(outcome.final_loss, 4) or known.loss,
        "eval_loss": (decimal(measured.tuned_loss, 4) if measured else None) or known.eval_loss,
    }  # fmt: skip
    # a short run ends before its log is read
    measured_speed = {name: value for name, value in speed_fields(outcome).items() if value is not None}
    return known.model_copy(update=changes | measured_speed)


def speed_fields(report: Progress | Outcome) -> dict[str, str | None]:
    """Return how fast the trainer is, as status has it."""
    return {
        "tokens_per_second": unsigned(report.tokens_per_second, 0),
        "model_flop_utilisation": unsigned(report.model_flop_utilisation, 3),
        "padding_share": unsigned(report.padding_share, 3),
    }


def evaluation_status(result: EvaluationResult) -> EvaluationStatus:
    """Return base and tuned model side by side."""
    base, tuned = decimal(result.base_loss, 4), decimal(result.tuned_loss, 4)
    return EvaluationStatus(
        examples=result.examples,
        base_loss=base,
        tuned_loss=tuned or "0",
        base_token_accuracy=unsigned(result.base_token_accuracy, 4),
        tuned_token_accuracy=unsigned(result.tuned_token_accuracy, 4),
        base_forgetting_loss=decimal(result.base_forgetting_loss, 4),
        tuned_forgetting_loss=decimal(result.tuned_forgetting_loss, 4),
        relative_improvement=improvement(result),
        metrics=[status for one in result.metrics[:MOST_METRICS] if (status := metric_status(one)) is not None],
        samples=[sample_status(sample) for sample in result.samples[:MOST_SAMPLES]],
    )


def metric_status(result: MetricResult) -> MetricStatus | None:
    """Return one metric with its intervals; None where they break the bounds of the API."""
    figures: dict[str, str | None] = {}
    for name, figure in (("base", result.base), ("tuned", result.tuned), ("difference", result.difference)):
        written = decimal if name == "difference" else unsigned
        figures |= {f"{name}{end}": written(value, 4) for end, value in zip(ENDS, figure or (), strict=False)}
    texts = {"name": result.name, "verdict": result.verdict, "note": result.note}
    shortened = {name: shorten(text, SHORT_TEXT_CHARACTERS) for name, text in texts.items()}
    try:
        return MetricStatus.model_validate({"examples": result.examples} | figures | shortened)
    except ValidationError:
        return None


def improvement(result: EvaluationResult) -> str | None:
    """Return (base - tuned) / base; None where the base model was not measured."""
    if not result.base_loss:
        return None
    return decimal((result.base_loss - result.tuned_loss) / result.base_loss, 4)


def sample_status(sample: Sample) -> SampleStatus:
    """Return one prompt with its two answers."""
    texts = (sample.prompt, sample.base, sample.tuned)
    prompt, base, tuned = (shorten(text, TEXT_CHARACTERS) for text in texts)
    return SampleStatus(prompt=prompt, base=base, tuned=tuned)


def artifact_statuses(artifacts: tuple[Artifact, ...]) -> list[ArtifactStatus]:
    """Return what was published. One that the API has no words for is left out: it must not hold up the others."""
    return [status for item in artifacts[:MOST_ARTIFACTS] if (status := artifact_status(item)) is not None]


def artifact_status(artifact: Artifact) -> ArtifactStatus | None:
    """Return one published thing, None where its fields break the bounds of the API."""
    values = {name: getattr(artifact, name) for name in ArtifactStatus.model_fields}
    try:
        return ArtifactStatus.model_validate(values)
    except ValidationError:
        return None


def memory_status(outcome: Outcome, plan: Plan) -> MemoryStatus | None:
    """Return prediction against measurement; what PyTorch allocates, so without the context of the card.

    Without a GPU nothing is reserved, and what was measured is the whole process: that is no measure of the plan.
    """
    measured = unsigned(outcome.peak_memory_gib, 2)
    if measured is None or outcome.peak_reserved_gib is None:
        return None
    predicted = float(plan.vram.total_gib) - float(plan.vram.overhead_gib)
    return MemoryStatus(
        predicted_gib=f"{predicted:.2f}",
        measured_gib=measured,
        reserved_gib=unsigned(outcome.peak_reserved_gib, 2),
        loading_gib=unsigned(outcome.loading_peak_gib, 2),
    )
