"""What a status write sends: what differs from its default, and what every reader looks for."""

from collections.abc import Callable

import pytest
from finetune_operator.api.pinned import content, told
from finetune_operator.api.status import FineTuneJobStatus

from tests.unit.lifecycle.lifecycle_builders import a_failure, published
from tests.unit.lifecycle.world import World, a_planned_world, a_training_world, a_world

WORLDS: list[Callable[[], World]] = [
    lambda: a_world().settle(),
    a_planned_world,
    a_training_world,
    lambda: a_training_world().edit(suspend=True).settle(),
    lambda: a_training_world().end("bot-0-0", 87, a_failure("DatasetChanged")).settle(),
    lambda: a_training_world().end("bot-0-0", 0, published()).settle(),
]


def test_the_first_status_says_three_things():
    """Selectors read the phase, kstatus the generation and the conditions."""
    assert told(FineTuneJobStatus()) == {"observedGeneration": 0, "phase": "Pending", "conditions": []}


@pytest.mark.parametrize("world", WORLDS)
def test_a_status_is_read_back_as_it_was(world: Callable[[], World]):
    """With defaults written out, as older operators did, and without: the comparison that decides on a write finds nothing."""
    status = world().status
    older = status.model_dump(mode="json", by_alias=True, exclude_none=True)

    assert (
        FineTuneJobStatus.model_validate(told(status) | content(status))
        == status
        == FineTuneJobStatus.model_validate(older)
    )


def test_nothing_is_written_that_only_says_its_default():
    """Empty texts, empty lists, 0 and false; a condition keeps its message, which metav1.Condition requires."""
    written = told(a_training_world().end("bot-0-0", 0, published()).settle().status)
    conditions = written.pop("conditions")

    assert "attemptsWithoutProgress" not in written
    assert "" not in written["attempts"][0].values()
    assert [] not in written["attempts"][0].values()
    assert {tuple(each) for each in conditions} == {("type", "status", "lastTransitionTime", "reason", "message")}
