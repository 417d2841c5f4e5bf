"""The part of the model card that says how both models did on the metrics. Pure text. Called by card."""

from collections.abc import Iterator, Sequence

from finetune_contract import Figure, MetricResult

from finetune_trainer.evaluation.record import ANSWERS_FILE, FOLDER
from finetune_trainer.publishing.published import Shown


def metrics_section(found: Sequence[Shown]) -> str:
    """Return a table of the figures with their intervals, then the confusion of labels."""
    if not found:
        return ""
    lines = [
        "## Metrics\n\nMeans over held-out rows, or over the documents of a task of lm-eval, with 95 % intervals (bootstrap); "
        "differences are row by row. "
        f"Every answer is in `{FOLDER}/{ANSWERS_FILE}`.\n",
        "| metric | rows | base | tuned | difference | |\n|---|---|---|---|---|---|",
        *(_row(result) for one in found for result in one.results),
        *(f"\n{result.name}: {result.note}." for one in found for result in one.results if result.note),
        *(line for one in found if "confusion" in one.details for line in _confusion(one)),
    ]
    return "\n".join(lines) + "\n"


def _row(result: MetricResult) -> str:
    figures = " | ".join((_figure(result.base), _figure(result.tuned), _figure(result.difference, sign="+")))
    return f"| {result.name} | {result.examples} | {figures} | {result.verdict} |"


def _figure(figure: Figure | None, sign: str = "") -> str:
    if figure is None:
        return "not measured"
    value, low, high = (f"{one:{sign}.3f}" for one in figure)
    return f"{value} ({low} to {high})"


def _confusion(one: Shown) -> Iterator[str]:
    labels = one.details["labels"]
    for model, table in one.details["confusion"].items():
        yield f"\n{one.name}, {model} model: lines are the labels of the data, columns the model's.\n"
        yield f"| | {' | '.join(labels)} |\n|---|{'---|' * len(labels)}"
        yield from (f"| {label} | {' | '.join(map(str, row))} |" for label, row in zip(labels, table, strict=True))
