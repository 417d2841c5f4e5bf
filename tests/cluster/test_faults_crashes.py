"""The operator is killed before and after its writes: the same end, the same number of creations and deletions."""

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.cluster.stories import STORIES, WHOLE, Ending, Open, Story, Theatre, differences, undisturbed

pytestmark = pytest.mark.cluster

SEED = 20260131
EVERY = 4
"""In the sample about one write in four costs the operator its life."""


@dataclass
class Killer:
    """Kills the operator around some of its writes, each once."""

    theatre: Theatre
    moment: str
    strikes: Callable[[int], bool]
    struck: int = 0

    def __call__(self, number: int, when: str) -> bool:
        if when != self.moment or not self.strikes(number):
            return True
        self.struck += 1
        self.theatre.operator.kill()
        return False


def killed(curtain: Open, moment: str, strikes: Callable[[int], bool], *stories: Story) -> tuple[Ending, int]:
    """Return how stories end when the operator is killed, and how often it was."""
    stage = curtain()
    killer = Killer(stage, moment, strikes)
    stage.proxy.around_write = killer
    stage.operator.start()
    ending = stage.play(stories)
    assert "Traceback" not in stage.operator.text
    return ending, killer.struck


@pytest.mark.skipif(WHOLE, reason="the whole sweep holds it")
def test_killed_now_and_then_all_stories_end_as_without_it(curtain: Open):
    """All stories side by side, one kill at about every fourth write, before or after it."""
    expected, _ = undisturbed(curtain, *STORIES.values())
    dice = random.Random(SEED)
    marked = {number for number in range(1, 1000) if dice.random() < 1 / EVERY}

    ending, kills = killed(curtain, dice.choice(["before", "after"]), marked.__contains__, *STORIES.values())

    assert differences(ending, expected) == []
    assert kills > 5


@pytest.mark.skipif(not WHOLE, reason="make faults")
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("name", STORIES)
def test_killed_at_any_write_a_story_ends_as_without_it(curtain: Open, name: str, moment: str):
    """One run for each write, with one kill."""
    story = STORIES[name]
    expected, writes = undisturbed(curtain, story)
    different = {}
    for point in itertools.count(1):
        ending, kills = killed(curtain, moment, lambda number, point=point: number == point, story)
        if not kills:
            break
        if found := differences(ending, expected):
            different[point] = found
    print(f"{name}, {moment}: {point - 1} points, {writes} writes undisturbed")

    assert different == {}
    assert point > writes
