"""What a user should know about a plan: pitfalls of method, data and settings. Called by planner.

Every change that is advised here and that memory or the API could refuse was planned first.
"""

from finetune_contract.engines import VLLM_LORA_RANKS, Trait, base_traits, servable_by

from finetune_operator.api.cel import default
from finetune_operator.api.plan import ModelArchitecture
from finetune_operator.api.resolved import ResolvedLora
from finetune_operator.api.spec import LoraSpec
from finetune_operator.api.validation import violations
from finetune_operator.planning.candidate import Candidate
from finetune_operator.planning.layouts import counted
from finetune_operator.planning.methods import FEW_EXAMPLES, SMALL_DATA_RANK
from finetune_operator.planning.models.architecture import whole_model_type
from finetune_operator.planning.refusal import with_spec
from finetune_operator.planning.search import Question
from finetune_operator.planning.survey import solved

VERY_FEW_EXAMPLES = 100
"""An adapter learns so few rows by heart."""

JUDGE_PROMPT_TOKENS = 120
"""Of a judge's instructions and headings."""

SMALL_DATA = 10_000
FEW_STEPS = 20

USUAL_RATES = {"lora": (1e-5, 1e-3), "qlora": (1e-5, 1e-3), "full": (1e-6, 1e-4)}
"""Bounds of our own by method: about an order of magnitude to either side of the defaults (defaults.OBJECTIVES)."""

FAR = 2.0
"""Only a rate that is this many times outside the range is warned of."""

Warnings = tuple[tuple[bool, str], ...]
"""(whether it applies, what it says)"""


def warnings(question: Question, chosen: Candidate) -> tuple[str, ...]:
    """Return what the user should know about this combination of method, data and settings, worst first."""
    lora = chosen.work.resolved.lora
    table = (
        *_data_warnings(question, chosen),
        *_rate_warnings(chosen),
        *(_full_warnings(chosen) if lora is None else _adapter_warnings(question, chosen, lora)),
    )
    return tuple(text for applies, text in table if applies)


def _planned(question: Question, **changes: object) -> Candidate | None:
    """Return the plan after a change; None where the API refuses it or nothing fits."""
    changed = with_spec(question, **changes)
    return None if violations(changed.spec) else solved(changed)


def _data_warnings(question: Question, chosen: Candidate) -> Warnings:
    spec, examples, training = question.spec, question.preflight.examples, chosen.work.resolved.training
    epochs = training.epochs
    few = spec.method == "qlora" and VERY_FEW_EXAMPLES <= examples < FEW_EXAMPLES
    return (
        (
            chosen.layout.method != "full" and examples < VERY_FEW_EXAMPLES,
            f"{counted(examples, 'example')} are too few to generalise from: use at least 200 to 500",
        ),
        (few, _few_for_qlora(question, examples) if few else ""),
        (bool(calls := _judge_calls(chosen)), calls),
        (
            epochs > 5 and examples < SMALL_DATA and training.early_stopping is None,
            f"{epochs} epochs over {counted(examples, 'example')} are likely to overfit: use at most 5, or set training.earlyStopping",
        ),
        (
            chosen.steps < FEW_STEPS,
            f"only {counted(chosen.steps, 'optimizer step')}: use more rows, more epochs or a smaller globalBatchSize",
        ),
        (
            chosen.work.evaluation_rows == 0,
            "no rows are held out, so nothing will show whether the model improved: set evaluation",
        ),
    )


def _judge_calls(chosen: Candidate) -> str:
    """Say what an endpoint elsewhere will be asked: its bill is not in the estimate."""
    evaluation, work = chosen.work.resolved.evaluation, chosen.work
    judges = [one for one in evaluation.metrics or () if one.judge is not None]
    rows = sum(work.evaluation_rows if one.source is None else evaluation.max_examples for one in judges)
    if not rows:
        return ""
    tokens = 2 * rows * (JUDGE_PROMPT_TOKENS + work.evaluation_tokens + 2 * evaluation.max_answer_tokens)
    names = ", ".join(sorted({one.judge.model for one in judges if one.judge is not None}))
    return (
        f"the judge {names} is called {2 * rows:,} times, with up to about {round(tokens, -3):,.0f} tokens to read: its cost is not "
        "part of the estimate"
    )


def _few_for_qlora(question: Question, examples: int) -> str:
    """Advise what fits: lora, or a larger rank."""
    said = f"qlora performs poorly with {examples} examples"
    larger = question.spec.lora.model_copy(update={"rank": SMALL_DATA_RANK})
    ways = ["use lora"] if _planned(question, method="lora") else []
    if question.spec.lora.rank < SMALL_DATA_RANK and _planned(question, lora=larger):
        ways.append(f"set lora.rank to {SMALL_DATA_RANK}")
    return f"{said}: {', or '.join(ways)}" if ways else f"{said}: add rows"


def _rate_warnings(chosen: Candidate) -> Warnings:
    method, rate = chosen.layout.method, chosen.work.resolved.training.learning_rate
    least, most = USUAL_RATES[method]
    usual = f"the usual range for {method} is {least:.0e} to {most:.0e}".replace("e-0", "e-")
    return (
        (float(rate) > FAR * most, f"training.learningRate {rate} is high, and training may diverge: {usual}"),
        (float(rate) < least / FAR, f"training.learningRate {rate} is low, and the model may hardly change: {usual}"),
    )


def _adapter_warnings(question: Question, chosen: Candidate, lora: ResolvedLora) -> Warnings:
    spec, revision = question.spec, question.preflight.model_revision
    frozen = chosen.work.architecture.num_experts > 0 and not lora.experts
    high = 128 < lora.rank <= VLLM_LORA_RANKS[-1] and _planned(question, method="full", lora=LoraSpec()) is not None
    wider = lora.targets == "attention" and _planned(question, lora=_with(spec.lora, targets="all-linear")) is not None
    unserved = _unserved(lora, chosen.work.architecture)
    return (
        (
            lora.rank < 8,
            f"lora.rank {lora.rank} is too low for most tasks: {default(LoraSpec, 'rank')} is a good starting point",
        ),
        (high, f"lora.rank {lora.rank} is high: above 128, method full is usually the better choice"),
        (
            wider,
            "lora.targets attention mostly changes style: all-linear learns more",
        ),
        (
            bool(unserved) and "merged" not in (spec.output.exports or ()),
            f"{unserved}; add merged to output.exports for a model that every server loads",
        ),
        (frozen, _frozen_experts(question, chosen) if frozen else ""),
        (
            bool(revision) and not spec.model.revision and spec.model.source.startswith("hf://"),
            f"the adapter works only with base model revision {revision}: serve it with that revision",
        ),
    )


def _with(lora: LoraSpec, **changes: object) -> LoraSpec:
    return lora.model_copy(update=changes)


def _unserved(lora: ResolvedLora, shape: ModelArchitecture) -> str:
    """Say which inference servers do not serve the adapter as it is; empty where all of them do."""
    answers = servable_by(traits_of(lora, shape), lora.rank)
    what = dict.fromkeys(word for one in answers for word in (*one.refuses, *one.distorts))
    refusing = ", ".join(one.engine for one in answers if one.refuses)
    distorting = ", ".join(one.engine for one in answers if one.distorts)
    said = [f"not loaded by {refusing}"] if refusing else []
    said += [f"ignored by {distorting}"] if distorting else []
    return f"{', '.join(what)}: {' and '.join(said)}" if said else ""


def traits_of(lora: ResolvedLora, shape: ModelArchitecture) -> frozenset[Trait]:
    """Return what the adapter will have beyond plain LoRA matrices, also because of its base model."""
    table = (
        (lora.variant == "dora", Trait.DORA),
        (lora.variant == "adalora", Trait.ADALORA),
        (lora.variant == "rslora", Trait.RSLORA),
        (bool(lora.modules_to_save), Trait.WHOLE_MODULES),
        (lora.experts, Trait.EXPERTS),
        ("lm_head" in (lora.target_modules or ()), Trait.HEAD),
    )
    return base_traits(whole_model_type(shape)) | frozenset(trait for applies, trait in table if applies)


def _frozen_experts(question: Question, chosen: Candidate) -> str:
    """Say that experts stay as they are, and how they could be adapted where that fits."""
    said = f"the {chosen.work.architecture.num_experts} experts of each layer stay frozen"
    planned = _planned(question, method="lora", lora=_with(question.spec.lora, experts=True))
    if planned is None:
        return f"{said}: adapting them (lora.experts) does not fit on these pools"
    return f"{said}: method lora with lora.experts adapts them ({planned.summary}, ${planned.usd:,.2f})"


def _full_warnings(chosen: Candidate) -> Warnings:
    bf16 = chosen.work.resolved.training.precision == "bf16"
    return (
        (
            bf16,
            "precision bf16 keeps no float32 master weights: small updates are lost to rounding and learning stalls",
        ),
    )
