"""A layout on a pool with its time and money, or why there is none; which of them is best. Made by search."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from finetune_contract import cost

from finetune_operator.api.plan import CheckpointPlan, HostNeeds
from finetune_operator.api.pools import GPUPool
from finetune_operator.api.resolved import Method
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.planning.host import host_needs
from finetune_operator.planning.layouts import PLAIN, Layout, Work, sharding, summary
from finetune_operator.planning.memory.estimate import MemoryEstimate
from finetune_operator.planning.saving import checkpoint_plan
from finetune_operator.planning.speed.duration import Duration, Pace, duration
from finetune_operator.planning.speed.generating import generating_seconds
from finetune_operator.planning.speed.step import Speed

LEAST_PRICE_USD = 0.01
"""Per GPU-hour."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A layout that fits its card, with its time and money."""

    work: Work
    pool: GPUPool
    layout: Layout
    memory: MemoryEstimate
    usable_gib: float
    speed: Speed
    step_seconds: float
    answers_at_once: int = 1

    @property
    def summary(self) -> str:
        """Method and GPUs in one line."""
        return summary(self.layout.method, self.layout.gpus, self.pool)

    @property
    def sharding(self) -> str:
        """How its states are spread; empty where every GPU has all of them."""
        return "" if self.layout.rung == PLAIN else sharding(self.layout.rung, self.layout.gpus)

    @cached_property
    def steps(self) -> int:
        """Optimizer steps of the run: the user's, or enough for every epoch."""
        training = self.work.resolved.training
        rows = self.work.rows * training.epochs
        return training.max_steps or math.ceil(rows / self.layout.global_batch_size)

    @cached_property
    def checkpoint(self) -> CheckpointPlan:
        """How the run is made safe."""
        return checkpoint_plan(
            self.work, self.layout, self.pool,
            training_seconds=self.steps * self.step_seconds, step_seconds=self.step_seconds,
        )  # fmt: skip

    @cached_property
    def duration(self) -> Duration:
        """Seconds for which the GPUs are held."""
        answering = generating_seconds(
            self.work, self.layout, self.pool, speed=self.speed, at_once=self.answers_at_once
        )
        pace = Pace(steps=self.steps, step_seconds=self.step_seconds, answering_seconds=answering)
        return duration(self.work, self.layout, self.pool, speed=self.speed, pace=pace, checkpoint=self.checkpoint)

    @cached_property
    def host(self) -> HostNeeds:
        """What a Pod needs beside its GPUs."""
        return host_needs(self.work, self.layout, self.pool, card_gib=self.usable_gib)

    @cached_property
    def seconds(self) -> int:
        """From start to published result."""
        return math.ceil(self.duration.total)

    @cached_property
    def gpu_seconds(self) -> int:
        """What is paid for."""
        return cost.gpu_seconds(self.layout.gpus, self.seconds)

    @cached_property
    def usd(self) -> float:
        """Estimated cost."""
        return self.gpu_seconds * float(self.pool.spec.price_per_gpu_hour_usd) / 3600

    @cached_property
    def weight(self) -> float:
        """Cost as plans are compared: GPUs of a pool without a price count a cent, or all of them would be taken."""
        price = max(LEAST_PRICE_USD, float(self.pool.spec.price_per_gpu_hour_usd))
        return self.gpu_seconds * price / 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A number of GPUs of a pool on which nothing fits."""

    method: Method
    pool: GPUPool
    gpus: int
    reason: str
    sharding: str = ""
    """How its states would be spread, where that is a layout that our trainer can run."""
    excess: float = math.inf
    """How far it is from fitting: need over supply, less one, of card and node; infinite where neither is why."""
    memory: MemoryEstimate | None = None
    """What it needs of the card, where that is a reason."""
    usable_gib: float = 0.0

    @property
    def summary(self) -> str:
        """Method and GPUs in one line."""
        return summary(self.method, self.gpus, self.pool)


BALANCED = 1.15
"""`balanced` takes the fastest plan within 15 % of the cheapest."""


def best(candidates: Sequence[Candidate], spec: FineTuneJobSpec) -> Candidate | None:
    """Return what `optimizeFor` asks for among the plans within budget and deadline, or among all where none is."""
    within = [one for one in candidates if within_limits(one, spec)] or list(candidates)
    if not within:
        return None
    by_cost = sorted(within, key=lambda one: (one.weight, one.seconds, one.layout.gpus))
    match spec.resources.optimize_for:
        case "cost":
            return by_cost[0]
        case "time":
            return min(within, key=lambda one: (one.seconds, one.weight, one.layout.gpus))
        case "balanced":
            affordable = [one for one in within if one.weight <= BALANCED * by_cost[0].weight]
            return min(affordable, key=lambda one: (one.seconds, one.weight, one.layout.gpus))


def within_limits(one: Candidate, spec: FineTuneJobSpec) -> bool:
    """Tell whether the run ends before budget and deadline suspend it."""
    budget, deadline = spec.run_policy.budget, spec.run_policy.active_deadline_seconds
    affordable = budget is None or one.usd <= float(budget.max_cost_usd)
    return affordable and (deadline is None or one.seconds <= deadline)
