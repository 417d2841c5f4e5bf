"""Two operators: by mistake both lead, or one waits while the other is killed. The same end as with one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.cluster.stories import STORIES
from tests.cluster.supervised_operator import SupervisedOperator
from tests.cluster.theatre import WHOLE, Ending, Open, Theatre, differences, undisturbed

pytestmark = pytest.mark.cluster

EVERY = 15
"""One write in so many costs the leader its life; the other one leads when the lease has run out."""
MOST = 5
"""Kills, so that a story ends in its time: each takes the other one some 15 seconds."""


@pytest.fixture(scope="module")
def expected(curtains: Open) -> Ending:
    """How all stories end with one operator."""
    return undisturbed(curtains, *STORIES.values())[0]


@contextmanager
def beside(stage: Theatre) -> Iterator[SupervisedOperator]:
    """Start a second operator, like that of a theatre."""
    log = stage.proxy.folder / "second.log"
    second = SupervisedOperator(stage.proxy.operator_kubeconfig, log, stage.operator.options)
    second.start()
    try:
        yield second
    finally:
        second.stop()


def test_two_operators_that_both_lead_do_nothing_twice(curtain: Open, expected: Ending):
    """As after a second installation: each write is fenced, each name is fixed."""
    stage = curtain()
    stage.operator.start()
    with beside(stage) as second:
        ending = stage.play(list(STORIES.values()))

    assert differences(ending, expected) == []
    assert "Traceback" not in stage.operator.text + second.text


@dataclass
class Assassin:
    """Kills the operator that leads, after some of its writes."""

    stage: Theatre
    operators: list[SupervisedOperator]
    kills: int = 0

    def __call__(self, number: int, when: str) -> bool:
        if when == "before" or number % EVERY or self.kills == MOST:
            return True
        lease = f"/apis/coordination.k8s.io/v1/namespaces/{self.stage.namespace}/leases/finetune-operator"
        holder = self.stage.api.get(lease)["spec"]["holderIdentity"]
        (leader,) = (each for each in self.operators if holder.endswith(f"-{each.pid}"))
        self.kills += 1
        leader.kill()
        return True


@pytest.mark.skipif(not WHOLE, reason="make faults")
def test_of_two_operators_the_other_one_goes_on_where_a_killed_leader_was(curtain: Open, expected: Ending):
    """Leaders are killed again and again; nothing is done twice, and nothing is forgotten."""
    stage = curtain()
    lease = ("--leader-elect", f"--lease-namespace={stage.namespace}")
    stage.operator.options = (*stage.operator.options, *lease)
    stage.operator.start()
    with beside(stage) as second:
        assassin = Assassin(stage, [stage.operator, second])
        stage.proxy.around_write = assassin
        ending = stage.play(list(STORIES.values()))

    assert differences(ending, expected) == []
    assert "Traceback" not in stage.operator.text + second.text
    assert assassin.kills > 2
