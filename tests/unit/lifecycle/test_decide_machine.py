"""A state machine over the pure core: whatever happens in whatever order, what must never be never is, after every step."""

from collections import Counter
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.unit.lifecycle.lifecycle_builders import JOB_UID
from tests.unit.lifecycle.test_decide_properties import (
    EXAMPLES,
    MOST_PASSES,
    beginnings,
    broken_pass,
    checked_pass,
    ends,
    node_dies,
    obeys,
    ours,
    reports,
    runs,
    specs,
    state,
)
from tests.unit.lifecycle.world import World

picks = st.integers(0, 1000)


def cost(world: World) -> Decimal:
    return Decimal(world.status.cost.cost_usd) if world.status.cost else Decimal(0)


def live_attempts(world: World) -> set[int]:
    """Return the attempts whose Pods may compute, as far as anyone can tell."""
    ours = (pod for pod in world.pods.values() if pod.owner_uid == JOB_UID and pod.role == "trainer")
    return {pod.attempt for pod in ours if not pod.finished and (pod.delete_by is None or pod.delete_by > world.now)}


class Life(RuleBasedStateMachine):
    """One job in one small cluster."""

    world: World
    paid = Decimal(0)

    @initialize(beginning=beginnings, spec=specs)
    def begins(self, beginning: Any, spec: dict[str, Any]) -> None:
        self.world = beginning(**{"training": {"globalBatchSize": 32}, **spec})

    @rule()
    def passes(self) -> None:
        checked_pass(self.world)

    @rule(pick=picks)
    def dies_in_the_middle_of_a_pass(self, pick: int) -> None:
        broken_pass(self.world, pick)

    @rule(seconds=st.sampled_from([1, 20, 90, 1500]))
    def time_passes(self, seconds: int) -> None:
        self.world.later(seconds)

    @precondition(lambda self: ours(self.world))
    @rule(pick=picks, act=st.sampled_from([runs, ends, node_dies]))
    def something_happens_to_a_pod(self, pick: int, act: Any) -> None:
        names = ours(self.world)
        act(self.world, names[pick % len(names)], pick)

    @precondition(lambda self: ours(self.world))
    @rule(pick=picks, kindly=st.booleans())
    def a_pod_is_taken_away(self, pick: int, kindly: bool) -> None:  # drawn by hypothesis
        names = ours(self.world)
        (self.world.remove if kindly else self.world.vanish)(names[pick % len(names)])

    @rule()
    def the_node_obeys(self) -> None:
        obeys(self.world)

    @rule(pick=picks)
    def the_trainer_reports(self, pick: int) -> None:
        reports(self.world, pick)

    @rule(quota=st.sampled_from([0, 2, 100]))
    def the_quota_changes(self, quota: int) -> None:
        self.world.quota = quota

    @rule(suspend=st.booleans())
    def the_user_changes_their_mind(self, suspend: bool) -> None:  # drawn by hypothesis
        self.world.edit(suspend=suspend)

    @invariant()
    def cost_never_falls(self) -> None:
        assert cost(self.world) >= self.paid
        self.paid = cost(self.world)

    @invariant()
    def never_two_live_attempts(self) -> None:
        assert len(live_attempts(self.world)) <= 1

    @invariant()
    def attempts_are_numbered_in_order(self) -> None:
        numbers = [attempt.number for attempt in self.world.attempts]
        assert numbers == sorted(set(numbers))

    def teardown(self) -> None:
        """It comes to rest within ten passes, and creates nothing twice on the way there."""
        if not hasattr(self, "world"):
            return
        before, created = None, len(self.world.created)
        for _ in range(MOST_PASSES):
            if (now := state(self.world)) == before:
                break
            before = now
            checked_pass(self.world)
            obeys(self.world)
            self.cost_never_falls()
            self.never_two_live_attempts()
        else:
            raise AssertionError(f"no rest after {MOST_PASSES} passes: {self.world.decision}")
        again = Counter(self.world.created[created:])
        assert {name for name, times in again.items() if times > 1} == set()


Life.TestCase.settings = settings(
    max_examples=max(20, EXAMPLES // 2),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestLife = Life.TestCase
