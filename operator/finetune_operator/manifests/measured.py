"""How the Pods are told to measure both models. Called by run_config."""

import finetune_contract as contract

from finetune_operator.api.evaluation import EvaluationSpec, JudgeSpec, LmEvalSpec, MetricSpec
from finetune_operator.api.evaluation_rules import name_of
from finetune_operator.manifests.data_config import dataset, location


def evaluation(asked: EvaluationSpec) -> contract.Evaluation:
    """Return the held-out measurement."""
    return contract.Evaluation(
        fraction=float(asked.fraction),
        max_examples=asked.max_examples,
        source=None if asked.source is None else dataset(asked.source),
        every_steps=asked.every_steps,
        baseline=asked.baseline,
        metrics=tuple(metric(one) for one in asked.metrics or ()),
        max_answer_tokens=asked.max_answer_tokens,
        prompts=tuple(asked.samples.prompts) if asked.samples else (),
        max_new_tokens=asked.samples.max_new_tokens if asked.samples else contract.SAMPLE_TOKENS,
        gated=asked.gate is not None,
    )


def metric(asked: MetricSpec) -> contract.Metric:
    """Return a way to judge answers."""
    return contract.Metric(
        name=name_of(asked),
        type=asked.type,
        source=None if asked.source is None else dataset(asked.source),
        ignore_case="case" in (asked.ignore or ()),
        ignore_punctuation="punctuation" in (asked.ignore or ()),
        pattern=asked.pattern or "",
        labels=tuple(asked.labels or ()),
        schema=asked.json_schema or "",
        equal=asked.values == "equal",
        judge=None if asked.judge is None else judge(asked.judge),
        lm_eval=None if asked.lm_eval is None else lm_eval(asked.lm_eval),
    )


def judge(asked: JudgeSpec) -> contract.Judge:
    """Return the model that compares answers."""
    return contract.Judge(
        endpoint=location(asked.endpoint, asked.credentials), model=asked.model, criteria=asked.criteria
    )


def lm_eval(asked: LmEvalSpec) -> contract.LmEval:
    """Return the task of lm-eval."""
    return contract.LmEval(
        location=location(asked.source, asked.credentials),
        revision=asked.revision or "",
        task=asked.task,
        metric=asked.metric or "",
        limit=asked.limit or 0,
        chat_template=asked.prompts == "chat",
    )
