"""Rules between the fields of spec.evaluation. Put on the schema by job_rules."""

import re
from collections.abc import Callable, Iterator

from finetune_contract import FURTHER, LABEL, LM_EVAL, TOOL_CALL

from finetune_operator.api.cel import Rule, default, quoted, untouched
from finetune_operator.api.evaluation import EvaluationSpec, GateSpec, MetricSpec

COMPARING = ("exactMatch", "contains", "regex")
"""Types that compare texts."""

ZERO = r"^0([.]0+)?$"


def is_zero(decimal: str) -> bool:
    """Say whether a decimal string is 0, without failing on what is no decimal."""
    return bool(re.search(ZERO, decimal))


EVALUATION_ON = f"(has(self.source) || !self.fraction.matches('{ZERO}'))"


def evaluates(evaluation: EvaluationSpec) -> bool:
    """Say whether anything is held out."""
    return evaluation.source is not None or not is_zero(evaluation.fraction)


def name_of(metric: MetricSpec) -> str:
    """Return how status and gate call a metric."""
    return metric.name or metric.type


NAME = "(has({m}.name) ? {m}.name : {m}.type)"
"""name_of in CEL."""


def figures(evaluation: EvaluationSpec) -> Iterator[str]:
    """Yield the names of all figures that are measured."""
    for metric in evaluation.metrics or ():
        yield name_of(metric)
        if metric.type in FURTHER:
            yield f"{name_of(metric)}.{FURTHER[metric.type]}"


def compares(gate: GateSpec) -> bool:
    """Say whether a gate compares with the base model."""
    return gate.min_relative_loss_improvement is not None or any(
        one.min_improvement is not None or one.max_regression is not None for one in gate.metrics or ()
    )


def only_for(field: str, *types: str, cel: str, holds: Callable[[MetricSpec], bool]) -> Rule:
    """Return the rule that a field stands only beside certain types."""
    return Rule(
        cel=f"{cel} || self.type in [{', '.join(quoted(one) for one in types)}]",
        message=f"{field} is used with type {' or '.join(types)} only: remove it, or change the type",
        holds=lambda metric: holds(metric) or metric.type in types,
        field=field,
    )


METRIC = (
    Rule(
        cel="self.type != 'regex' || has(self.pattern)",
        message="type regex requires pattern: write the regular expression that answers must match",
        holds=lambda metric: metric.type != "regex" or metric.pattern is not None,
        field="pattern",
    ),
    only_for("pattern", "regex", cel="!has(self.pattern)", holds=lambda metric: metric.pattern is None),
    only_for("labels", "label", cel="!has(self.labels)", holds=lambda metric: metric.labels is None),
    only_for("jsonSchema", "json", cel="!has(self.jsonSchema)", holds=lambda metric: metric.json_schema is None),
    only_for("values", "json", cel="self.values == 'any'", holds=lambda metric: metric.values == "any"),
    Rule(
        cel="self.type != 'judge' || has(self.judge)",
        message="type judge requires judge: set the endpoint and the model that judges",
        holds=lambda metric: metric.type != "judge" or metric.judge is not None,
        field="judge",
    ),
    only_for("judge", "judge", cel="!has(self.judge)", holds=lambda metric: metric.judge is None),
    Rule(
        cel=f"self.type != '{LM_EVAL}' || has(self.lmEval)",
        message="type lmEval requires lmEval: set the folder with the task's files, and the task",
        holds=lambda metric: metric.type != LM_EVAL or metric.lm_eval is not None,
        field="lmEval",
    ),
    only_for("lmEval", LM_EVAL, cel="!has(self.lmEval)", holds=lambda metric: metric.lm_eval is None),
    Rule(
        cel=f"self.type != '{LM_EVAL}' || !has(self.source)",
        message="type lmEval is measured on the documents of its task: remove source, and set lmEval.source",
        holds=lambda metric: metric.type != LM_EVAL or metric.source is None,
        field="source",
    ),
    only_for("ignore", *COMPARING, cel="!has(self.ignore)", holds=lambda metric: metric.ignore is None),
    Rule(
        cel="!has(self.source) || (!has(self.source.weight) && !has(self.source.maxExamples))",
        message="weight and maxExamples apply to training data only: remove them, and set evaluation.maxExamples",
        holds=lambda metric: metric.source is None or (metric.source.weight, metric.source.max_examples) == (None, None),
        field="source",
    ),
)  # fmt: skip

METRIC_GATE = (
    Rule(
        cel="has(self.minValue) || has(self.minImprovement) || has(self.maxRegression)",
        message="minValue, minImprovement and maxRegression are all missing: set one of them",
        holds=lambda gate: (gate.min_value, gate.min_improvement, gate.max_regression) != (None, None, None),
        field="minValue",
    ),
    Rule(
        cel="!has(self.minImprovement) || !has(self.maxRegression)",
        message="minImprovement and maxRegression are mutually exclusive: remove one of them",
        holds=lambda gate: gate.min_improvement is None or gate.max_regression is None,
        field="maxRegression",
    ),
)

GATE = (
    Rule(
        cel="has(self.minRelativeLossImprovement) || has(self.metrics)",
        message="minRelativeLossImprovement and metrics are both missing: set one of them, or remove gate",
        holds=lambda gate: gate.min_relative_loss_improvement is not None or gate.metrics is not None,
        field="metrics",
    ),
)

EVALUATION = (
    Rule(
        cel=f"!has(self.source) || {untouched('self', EvaluationSpec, 'fraction')}",
        message="source and fraction are mutually exclusive: remove one of them",
        holds=lambda evaluation: (
            evaluation.source is None or evaluation.fraction == default(EvaluationSpec, "fraction")
        ),
        field="fraction",
    ),
    Rule(
        cel="!has(self.source) || !has(self.source.weight)",
        message="weight applies to training data only: remove it",
        holds=lambda evaluation: evaluation.source is None or evaluation.source.weight is None,
        field="source.weight",
    ),
    Rule(
        cel="!has(self.source) || !has(self.source.maxExamples)",
        message="the number of held-out rows is set by evaluation.maxExamples: use that, and remove source.maxExamples",
        holds=lambda evaluation: evaluation.source is None or evaluation.source.max_examples is None,
        field="source.maxExamples",
    ),
    Rule(
        cel=f"!has(self.gate) || {EVALUATION_ON}",
        message='gate requires an evaluation: set fraction above "0" or set source, or remove gate',
        holds=lambda evaluation: evaluation.gate is None or evaluates(evaluation),
        field="gate",
    ),
    Rule(
        cel="!has(self.gate) || self.baseline || (!has(self.gate.minRelativeLossImprovement) && (!has(self.gate.metrics) ||"
        " self.gate.metrics.all(m, !has(m.minImprovement) && !has(m.maxRegression))))",
        message="gate compares with the base model: set baseline to true, or gate on minValue of metrics alone",
        holds=lambda evaluation: evaluation.gate is None or evaluation.baseline or not compares(evaluation.gate),
        field="gate",
    ),
    Rule(
        cel="!has(self.gate) || !has(self.gate.metrics) || (has(self.metrics) && self.gate.metrics.all(g, self.metrics.exists(m,"
        f" g.metric == {NAME.format(m='m')} || (m.type == '{LABEL}' && g.metric == {NAME.format(m='m')} + '.{FURTHER[LABEL]}')"
        f" || (m.type == '{TOOL_CALL}' && g.metric == {NAME.format(m='m')} + '.{FURTHER[TOOL_CALL]}'))))",
        message="gate names a metric that is not measured: add it to evaluation.metrics, or correct the name",
        holds=lambda evaluation: (
            evaluation.gate is None
            or all(one.metric in set(figures(evaluation)) for one in evaluation.gate.metrics or ())
        ),
        field="gate.metrics",
    ),
    Rule(
        cel="!has(self.metrics) || self.baseline || self.metrics.all(m, m.type != 'judge')",
        message="type judge compares with the base model: set baseline to true, or remove the metric",
        holds=lambda evaluation: evaluation.baseline or all(one.type != "judge" for one in evaluation.metrics or ()),
        field="metrics",
    ),
    Rule(
        cel=f"!has(self.metrics) || self.metrics.all(m, self.metrics.exists_one(n, {NAME.format(m='n')} == {NAME.format(m='m')}))",
        message="two metrics have the same name: set name on one of them",
        holds=lambda evaluation: (
            len({name_of(one) for one in evaluation.metrics or ()}) == len(evaluation.metrics or ())
        ),
        field="metrics",
    ),
    Rule(
        cel=f"!has(self.metrics) || {EVALUATION_ON}",
        message='metrics require an evaluation: set fraction above "0" or set source, or remove metrics',
        holds=lambda evaluation: evaluation.metrics is None or evaluates(evaluation),
        field="metrics",
    ),
    Rule(
        cel=f"{untouched('self', EvaluationSpec, 'every_steps')} || {EVALUATION_ON}",
        message='everySteps requires an evaluation: set fraction above "0" or set source, or remove everySteps',
        holds=lambda evaluation: (
            evaluation.every_steps == default(EvaluationSpec, "every_steps") or evaluates(evaluation)
        ),
        field="everySteps",
    ),
)
