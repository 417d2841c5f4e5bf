"""What evaluation.gate says of the measured models, in words. Called by conditions."""

from collections.abc import Iterator
from dataclasses import dataclass

from finetune_operator.api.evaluation import GateSpec, MetricGateSpec
from finetune_operator.api.published import EvaluationStatus, MetricStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that the gate asks for."""

    passed: bool
    message: str


def findings(result: EvaluationStatus | None, gate: GateSpec) -> tuple[Finding, ...] | None:
    """Return what the gate found, what failed first; None where something that it asks for was not measured."""
    if result is None:
        return None
    found: list[Finding] = []
    if (least := gate.min_relative_loss_improvement) is not None:
        if result.relative_improvement is None:
            return None
        found.append(_loss(result, result.relative_improvement, least))
    measured = {metric.name: metric for metric in result.metrics}
    for asked in gate.metrics or ():
        metric = measured.get(asked.metric)
        compares = asked.min_improvement is not None or asked.max_regression is not None
        if metric is None or (compares and metric.difference is None):
            return None
        found += _metric(metric, asked)
    return tuple(sorted(found, key=lambda finding: finding.passed))


def change(improvement: str) -> str:
    """Return an improvement in words: 82.1 % better."""
    return f"{percent(improvement.removeprefix('-'))} {'worse' if improvement.startswith('-') else 'better'}"


def percent(share: str) -> str:
    """Return a fraction in percent, with four digits at most: figures that differ at the gate must look different."""
    return f"{100 * float(share):.4g} %"


def _loss(result: EvaluationStatus, improvement: str, least: str) -> Finding:
    message = (
        f"held-out loss went from {result.base_loss} to {result.tuned_loss}: {change(improvement)}; "
        f"the gate requires {percent(least)}"
    )
    return Finding(passed=float(improvement) >= float(least), message=message)


def _metric(metric: MetricStatus, asked: MetricGateSpec) -> Iterator[Finding]:
    """The end of the interval that is worse decides: what is claimed holds with 95 % confidence."""
    if asked.min_value is not None:
        least = float(asked.min_value)
        is_so = f"{metric.name} is {metric.tuned} ({metric.tuned_low} to {metric.tuned_high})"
        yield _finding(metric, is_so, metric.tuned, metric.tuned_low, least, f"at least {asked.min_value}")
    difference, low, high = metric.difference or "0", metric.difference_low or "0", metric.difference_high or "0"
    went = f"{metric.name} went from {metric.base} to {metric.tuned}, a change of {_signed(difference)}"
    changed = f"{went} ({_signed(low)} to {_signed(high)})"
    if asked.min_improvement is not None:
        wanted = f"an improvement of at least {asked.min_improvement}"
        yield _finding(metric, changed, difference, low, float(asked.min_improvement), wanted)
    if asked.max_regression is not None:
        wanted = f"a decrease of at most {asked.max_regression}"
        yield _finding(metric, changed, difference, low, -float(asked.max_regression), wanted)


def _finding(metric: MetricStatus, is_so: str, value: str, low: str, least: float, wanted: str) -> Finding:
    passed = float(low) >= least
    luck = not passed and float(value) >= least
    unsure = f"; {metric.examples} rows are too few to be sure of it" if luck else ""
    message = f"{is_so}, 95 % interval on {metric.examples} rows; the gate requires {wanted} at its lower end{unsure}"
    return Finding(passed=passed, message=message)


def _signed(value: str) -> str:
    return value if value.startswith("-") else f"+{value}"
