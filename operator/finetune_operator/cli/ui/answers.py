"""The answers: what `finetune plan`, `vram`, `models` and `gpus` say, as JSON. Pure but for the catalogue's file."""

from collections.abc import Mapping
from typing import Any

from finetune_operator.cli import plan_view
from finetune_operator.cli.plan_data import assumed_facts
from finetune_operator.cli.plan_page import ASSUMED_POOLS, in_lines, remarks
from finetune_operator.cli.ui.questions import plan_question, pools_of, shape_of, spec_of
from finetune_operator.cli.vram import answer as vram_answer
from finetune_operator.errors import DoesNotFit
from finetune_operator.planning.planner import PlannedRun, plan
from finetune_operator.planning.speed.duration import hours

BAR = tuple((name, field) for name, field, _, _ in plan_view.TERMS)
"""The parts of the memory bar: a name, and the field of plan.vram in Python's spelling."""


def planned(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return plan, resolved spec, assumptions and the parts of the memory bar. Raises FinetuneError; DoesNotFit with remedies."""
    question = plan_question(raw)
    shape, spec, offered = shape_of(question), spec_of(question), pools_of(question)
    facts = assumed_facts(spec, shape, question.examples, question.tokens_per_example)
    try:
        run = plan(spec, architecture=shape, preflight=facts.preflight, pools=offered, image="")
    except DoesNotFit as refusal:
        raise DoesNotFit(in_lines(refusal.message)) from refusal
    notes = [*facts.assumed, *([] if question.pools else [ASSUMED_POOLS.removeprefix("assumed: ")])]
    return {
        "plan": run.plan.model_dump(),
        "resolved": run.resolved.model_dump(),
        "assumed": [each.partition("; pass --")[0] for each in notes],
        "remarks": list(remarks(offered, shape, facts.preflight)),
        "bar": bar(run),
        "words": words(run),
    }


def words(run: PlannedRun) -> dict[str, Any]:
    """Return time and cost of the plan and of its alternatives as `finetune plan` writes them."""
    estimate = run.plan.estimate
    others = [(one.seconds, one.cost_usd) for one in run.plan.alternatives]
    return {
        "time": hours(estimate.seconds),
        "cost": plan_view.dollars(estimate.cost_usd),
        "alternatives": [
            {"time": hours(seconds) if seconds else "", "cost": plan_view.dollars(cost) if cost else ""}
            for seconds, cost in others
        ],
    }


def bar(run: PlannedRun) -> dict[str, Any]:
    """Return the memory of the fullest GPU in GiB: its parts in order, the need with margin, and the card."""
    vram = run.plan.vram
    parts = [{"name": name, "GiB": float(getattr(vram, field))} for name, field in BAR]
    return {"parts": parts, "withMarginGiB": float(vram.request_gib), "cardGiB": float(vram.usable_gib)}


def vram(text: str) -> list[dict[str, Any]]:
    """Return the answers to scenarios, one JSON object a line, as `finetune vram --explain` gives them."""
    lines = (line for line in text.splitlines() if line.strip())
    return [vram_answer(line, number, explain=True) for number, line in enumerate(lines, start=1)]
