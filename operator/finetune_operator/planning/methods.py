"""Which method, when the user leaves it to us. Rules are ordered; the first that applies decides.

Called by planner with what fits per method. docs/planning.md says where the rules come from.
"""

from dataclasses import dataclass
from typing import Protocol

from finetune_operator.api.preflight import PreflightStatus
from finetune_operator.api.resolved import Method
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.planning.candidate import Candidate, within_limits
from finetune_operator.planning.layouts import card_name, counted
from finetune_operator.planning.speed.duration import hours

FEW_EXAMPLES = 500
"""4-bit noise is not averaged out by fewer rows."""

SMALL_DATA_RANK = 64
"""LoRA rank that makes up for 4-bit noise where data is short."""

ADAPTERS: tuple[Method, ...] = ("lora", "qlora")

DEARER_ALLOWED = 1.5
"""lora may cost so much more than qlora: it keeps the weights as they are."""

DEAREST_ALLOWED = 3.0
"""A plan over three times the cheapest adequate one is taken only when the user names the method."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The method and why."""

    method: Method
    reason: str
    lora_rank: int = 0
    """0: the spec's."""
    warnings: tuple[str, ...] = ()


class Offers(Protocol):
    """What fits, per method."""

    def cheapest(self, method: Method, lora_rank: int = 0) -> Candidate | None:
        """Return the cheapest plan with a method, or None where nothing fits."""

    def fewest_gpus(self, method: Method) -> Candidate:
        """Return the plan on the least number of GPUs that a method fits on."""

    def best(self, choice: Choice) -> Candidate | None:
        """Return the plan that a choice comes to."""


def choose(spec: FineTuneJobSpec, preflight: PreflightStatus, offers: Offers) -> Choice | None:
    """Return the method for `method: auto`, or None where no method fits."""
    choice = _by_rules(spec, preflight, offers)
    return _within_limits(choice, spec, preflight, offers) if choice else None


def _by_rules(spec: FineTuneJobSpec, preflight: PreflightStatus, offers: Offers) -> Choice | None:
    if spec.objective == "cpt":
        return _continued_pretraining(offers)
    if preflight.examples < FEW_EXAMPLES:
        return _few_examples(preflight.examples, spec.lora.rank, offers)
    return _adapter(offers)


def _within_limits(choice: Choice, spec: FineTuneJobSpec, preflight: PreflightStatus, offers: Offers) -> Choice:
    """Return another adapter where only that ends within budget and deadline: half a run is worth less than its method."""
    planned = offers.best(choice)
    if planned is None or within_limits(planned, spec):
        return choice
    why = f"{choice.method} would take {hours(planned.seconds)} and cost ${planned.usd:,.2f}, more than spec.runPolicy allows"
    lora, qlora = (
        Choice(
            method=method,
            reason=f"{why}; {method} stays within the limits",
            warnings=_learns_less(method) if choice.method == "full" else (),
        )
        for method in ADAPTERS
    )
    if spec.objective != "cpt" and preflight.examples < FEW_EXAMPLES:
        qlora = _few_for_qlora(preflight.examples, _lora_rank_for_few(spec.lora.rank, offers), why)
    for other in (lora, qlora):
        found = offers.best(other) if other.method != choice.method else None
        if found and within_limits(found, spec) and not _too_dear(found, planned):
            return other
    return choice


def _learns_less(method: Method) -> tuple[str, ...]:
    """Warn that an adapter stands in for full."""
    return (f"{method} learns less new knowledge than full fine-tuning; set method to full to require that",)


def _continued_pretraining(offers: Offers) -> Choice | None:
    full, adapter = offers.cheapest("full"), offers.cheapest("lora") or offers.cheapest("qlora")
    if full is not None and not _too_dear(full, adapter):
        return Choice(
            method="full", reason="continued pre-training works best on all weights, and full fine-tuning fits"
        )
    if adapter is None:
        return None
    why = "does not fit" if full is None else f"would cost at least {_times(full, adapter)}"
    method = adapter.layout.method
    return Choice(
        method=method,
        reason=f"full {why}; {method} is the next best choice for continued pre-training",
        warnings=_learns_less(method),
    )


def _few_examples(examples: int, asked_rank: int, offers: Offers) -> Choice | None:
    lora_rank = _lora_rank_for_few(asked_rank, offers)
    lora, qlora = offers.cheapest("lora"), offers.cheapest("qlora", lora_rank)
    if lora is not None and not _too_dear(lora, qlora):
        return Choice(method="lora", reason=f"fits in 16 bits; {examples} examples are too few for 4-bit training")
    if qlora is None:
        return None
    why = "lora does not fit" if lora is None else f"lora would cost at least {_times(lora, qlora)}"
    return _few_for_qlora(examples, lora_rank, why)


def _lora_rank_for_few(asked: int, offers: Offers) -> int:
    """A smaller adapter is better than none."""
    wanted = max(SMALL_DATA_RANK, asked)
    return wanted if offers.cheapest("qlora", wanted) else asked


def _few_for_qlora(examples: int, lora_rank: int, why: str) -> Choice:
    rank = (
        f"LoRA rank {lora_rank}, because qlora performs poorly at a lower rank with only {counted(examples, 'example')}"
    )
    if lora_rank < SMALL_DATA_RANK:
        rank = f"LoRA rank {SMALL_DATA_RANK}, better for qlora with only {counted(examples, 'example')}, does not fit"
    return Choice(
        method="qlora",
        reason=f"{why}; {rank}",
        lora_rank=lora_rank,
        warnings=(f"qlora with {counted(examples, 'example')}: adding rows would help more than the larger rank",),
    )


def _adapter(offers: Offers) -> Choice | None:
    lora, qlora = offers.cheapest("lora"), offers.cheapest("qlora")
    if lora is None:
        return None if qlora is None else Choice(method="qlora", reason="lora does not fit, but qlora does")
    least = offers.fewest_gpus("lora")
    fits = f"fits in 16 bits on {least.layout.gpus} x {card_name(least.pool)}"
    if qlora is None or (least.layout.gpus <= qlora.layout.gpus and not _too_dear(lora, qlora)):
        return Choice(method="lora", reason=fits)
    if lora.weight <= DEARER_ALLOWED * qlora.weight:
        return Choice(method="lora", reason=f"{fits}; costs at least {_times(lora, qlora)}, but avoids 4-bit noise")
    return Choice(method="qlora", reason=f"lora would cost at least {_times(lora, qlora)}")


def _too_dear(one: Candidate, other: Candidate | None) -> bool:
    return other is not None and one.weight > DEAREST_ALLOWED * other.weight


def _times(one: Candidate, other: Candidate) -> str:
    return f"${one.usd:,.2f}, {one.weight / other.weight:.1f} times as much as {other.layout.method}"
