"""The report of a job: one page that says what was planned, what happened, what it cost and what came out. Pure; called by report."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape

from finetune_operator.api.preflight import PreflightStatus
from finetune_operator.api.published import ArtifactStatus
from finetune_operator.api.status import FineTuneJob
from finetune_operator.cli.compare_text import RESULTS, interval
from finetune_operator.cli.curves import Curves
from finetune_operator.cli.differences import flat
from finetune_operator.cli.get_text import evaluation_text
from finetune_operator.cli.job_text import attempt_line, duration_text, ended, gate_text, plan_text, reason_line
from finetune_operator.cli.plan_view import TERMS
from finetune_operator.cli.report_html import cards, page, section, stacked, table
from finetune_operator.cli.report_usage import usage
from finetune_operator.cli.svg_bars import histogram
from finetune_operator.cli.svg_curves import Curve, picture
from finetune_operator.planning.layouts import counted

COLOURS = {
    "blue": "#3b82f6",
    "cyan": "#06b6d4",
    "magenta": "#d946ef",
    "yellow": "#eab308",
    "green": "#22c55e",
    "red": "#ef4444",
    "white": "#94a3b8",
}
"""The colours of the terminal, on a page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the page is made of."""

    job: FineTuneJob
    curves: Curves
    written: datetime


def report_page(report: Report) -> str:
    """Return the page."""
    job = report.job
    body = [
        header(job),
        section("Merged", merged(job)) if job.spec.merge_of is not None else section("Loss", curves(report.curves)),
        section("Planned and actual", against_plan(job), memory(job)),
        section("Attempts", attempts(job)),
        section("Metrics", metrics(job)),
        section("Answers", samples(job)),
        section("Data", data(job)),
        section("Warnings", warnings(job)),
        section("Use it", *(f"<p>{escape(about)}</p><pre>{escape(code)}</pre>" for about, code in usage(job))),
        section("Provenance", provenance(job), settings(job)),
        f'<p class="lead">Written {report.written:%Y-%m-%d %H:%M} UTC by finetune report.</p>',
    ]
    return page(f"{job.key}: {job.status.phase}", [part for part in body if part])


def header(job: FineTuneJob) -> str:
    """Return what it is, how it ended, and the figures that people ask for first."""
    well = ended(job)
    tone = "" if well is None else ' class="good"' if well else ' class="bad"'
    measured = job.status.evaluation
    figures = [(result.name, value) for result in RESULTS if (value := result.of(job)) and result.name != "phase"]
    verdict = f"<p>{escape(evaluation_text(measured))}</p>" if measured else ""
    verdict += f"\n<p>Gate {escape(gate)}</p>" if (gate := gate_text(job)) else ""
    return (
        f'<header>\n<h1>{escape(job.key)}</h1>\n<p class="lead">{escape(job.spec.model.source)}</p>\n'
        f"<p{tone}>{escape(reason_line(job))}</p>\n{verdict}\n{cards(figures)}\n</header>"
    )


def merged(job: FineTuneJob) -> str:
    """Return which adapters became one, and how."""
    assert job.spec.merge_of is not None
    rows = [(one.source, one.weight) for one in job.spec.merge_of.adapters]
    return f"<p>{escape(plan_text(job))}</p>" + table(("adapter", "weight"), rows, numbers=frozenset({1}))


def curves(found: Curves) -> str:
    """Return the loss in training and on held-out rows, and the learning rate; or why they are missing."""
    note = f'<p class="lead">{escape(found.missing)}</p>' if found.missing else ""
    if not found.loss and not found.held_out:
        return note or '<p class="lead">No step has been measured.</p>'
    loss = picture(
        [Curve(name="training", points=found.loss), Curve(name="held out", points=found.held_out)], title="loss"
    )
    rate = (
        picture([Curve(name="learning rate", points=found.learning_rate)], title="learning rate")
        if found.learning_rate
        else ""
    )
    return f'<div class="two"><div>{loss}</div><div>{rate}</div></div>{note}'


def against_plan(job: FineTuneJob) -> str:
    """Return what was planned beside what it was: memory, speed, time, money."""
    status, plan = job.status, job.status.plan
    if plan is None:
        return ""
    gpus = plan.replicas * plan.gpus_per_replica
    held = sum(attempt.gpu_seconds for attempt in status.attempts or ()) / max(1, gpus)
    progress, cost = status.progress, status.cost
    peak = status.memory.measured_gib if status.memory else (progress.peak_memory_gib or "") if progress else ""
    rows = [
        ("memory per GPU, GiB", plan.vram.total_gib, peak),
        ("tokens/s", plan.estimate.tokens_per_second, (progress.tokens_per_second or "") if progress else ""),
        ("time on GPUs", duration_text(plan.estimate.seconds), duration_text(held) if held else ""),
        ("cost, USD", plan.estimate.cost_usd, cost.cost_usd if cost and status.attempts else ""),
        ("of which repeated or waited for, USD", "", cost.wasted_usd if cost and status.attempts else ""),
    ]
    told = [(name, planned, actual, _ratio(planned, actual)) for name, planned, actual in rows if planned or actual]
    return f"<p>{escape(plan.summary)}: {escape(plan.method_reason)}</p>" + table(
        ("", "planned", "actual", "actual / planned"), told, numbers=frozenset({1, 2, 3})
    )


def _ratio(planned: str, actual: str) -> str:
    try:
        return f"{float(actual) / float(planned):.2f}" if float(planned) else ""
    except ValueError:
        return ""


def memory(job: FineTuneJob) -> str:
    """Return the memory of the fullest GPU by term, as long as the card."""
    plan = job.status.plan
    if plan is None:
        return ""
    parts = [(name, float(getattr(plan.vram, field)), COLOURS[colour]) for name, field, colour, _ in TERMS]
    known = [part for part in parts if part[1] >= 0.005]
    return f"<p>Memory of one GPU as planned, GiB of {escape(plan.vram.usable_gib)}</p>" + stacked(
        known, float(plan.vram.usable_gib)
    )


def attempts(job: FineTuneJob) -> str:
    """Return every attempt, with what it did and cost."""
    rows = [
        (
            str(one.number + 1),
            one.outcome or attempt_line(one).split()[1],
            f"{one.first_step} to {one.last_step}",
            f"{one.gpu_seconds:,}",
            one.cost_usd,
            one.message or "",
        )
        for one in job.status.attempts or ()
    ]
    return table(("attempt", "how it ended", "steps", "GPU-seconds", "USD", "message"), rows, numbers=frozenset({3, 4}))


def metrics(job: FineTuneJob) -> str:
    """Return the metrics of both models with their 95 % intervals, and what they say."""
    found = job.status.evaluation.metrics if job.status.evaluation else []
    rows = [
        (
            one.name,
            f"{one.examples:,}",
            interval(one.base, one.base_low, one.base_high),
            interval(one.tuned, one.tuned_low, one.tuned_high),
            interval(one.difference, one.difference_low, one.difference_high),
            ". ".join(filter(None, (one.verdict, one.note))),
        )
        for one in found
    ]
    return table(("metric", "rows", "base", "tuned", "difference", ""), rows, numbers=frozenset({1}))


def samples(job: FineTuneJob) -> str:
    """Return the answers of both models side by side."""
    found = job.status.evaluation.samples if job.status.evaluation else []
    return "\n".join(
        f'<p><b>{escape(one.prompt)}</b></p><div class="two">{_answer("base", one.base)}{_answer("tuned", one.tuned)}</div>'
        for one in found
    )


def _answer(model: str, text: str) -> str:
    return f'<div><span class="lead">{model}</span><div class="said">{escape(text)}</div></div>'


def data(job: FineTuneJob) -> str:
    """Return what preflight found in the data."""
    found = job.status.preflight
    if found is None:
        return ""
    share = 100 * found.trained_tokens / max(1, found.tokens)
    training = f"{counted(found.examples, 'training row')}, {found.evaluation_examples:,} held out"
    measured = f"{counted(found.evaluation_examples, 'row')} held out; the other {found.examples:,} are not used"
    rows = [
        ("source", ", ".join(dataset.source for dataset in job.spec.datasets)),
        ("rows", training if job.spec.merge_of is None else measured),
        ("exact duplicates", f"{found.duplicates:,}, left out" if found.duplicates else ""),
        ("tokens", f"{found.tokens:,} per epoch, {share:.0f} % of them trained"),
        (
            "row length in tokens",
            f"median {found.tokens_p50:,}, 99 % up to {found.tokens_p99:,}, longest {found.tokens_max:,}",
        ),
        (
            "sequence length",
            f"{found.sequence_length:,}; {found.truncated_rows:,} rows truncated, {found.dropped_rows:,} left out",
        ),
        ("sample of the rows", found.preview_uri),
    ]
    return table(("", ""), [row for row in rows if row[1]]) + lengths(found)


def lengths(found: PreflightStatus) -> str:
    """Return the rows by their length, with the sequence length; nothing where an older preflight did not count them."""
    if not found.rows_by_length:
        return ""
    drawn = histogram(
        found.rows_by_length, found.length_step, found.tokens_max, mark=("sequence length", found.sequence_length)
    )
    words = '<p class="lead">Rows by length in tokens, before long rows are truncated or left out</p>'
    return f'<div class="two below"><div>{words}{drawn}</div></div>'


def warnings(job: FineTuneJob) -> str:
    """Return what preflight and plan warned about."""
    said = [
        *(job.status.preflight.warnings if job.status.preflight else []),
        *(job.status.plan.warnings if job.status.plan else []),
    ]
    return "<ul>" + "".join(f"<li>{escape(one)}</li>" for one in dict.fromkeys(said)) + "</ul>" if said else ""


def provenance(job: FineTuneJob) -> str:
    """Return what identifies the run and its result."""
    status = job.status
    found, plan = status.preflight, status.plan
    rows: Sequence[tuple[str, str]] = [
        ("run digest", status.run_digest),
        ("base model revision", found.model_revision if found else ""),
        ("dataset digest", found.dataset_digest if found else ""),
        ("trainer image", plan.image if plan else status.export.image if status.export else ""),
        *((f"{one.kind} at {one.uri}", identity(one)) for one in status.artifacts),
        ("created", job.metadata.creation_timestamp),
        ("finished", status.completion_time or ""),
    ]
    return table(("", ""), [row for row in rows if row[1]])


def identity(artifact: ArtifactStatus) -> str:
    """Return digest and size, and what an exported form was compared with."""
    known = f"{artifact.digest}, {artifact.size_bytes:,} bytes"
    return f"{known}. {artifact.checked}" if artifact.checked else known


def settings(job: FineTuneJob) -> str:
    """Return every setting of the run, defaults included, folded away."""
    resolved = job.status.resolved
    spec = resolved if resolved is not None else job.spec
    rows = list(flat(spec.model_dump(mode="json", by_alias=True, exclude_none=True)))
    return f"<details><summary>All settings</summary>{table(('setting', 'value'), rows)}</details>"
