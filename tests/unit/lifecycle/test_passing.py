"""Which statuses may wait before they are written: those that the next pass finds again by itself."""

from collections.abc import Callable

import pytest
from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.lifecycle.passing import may_wait

from tests.unit.lifecycle.lifecycle_builders import a_failure, a_progress, examined, published
from tests.unit.lifecycle.world import World, a_planned_world, a_training_world, a_world

Change = Callable[[], tuple[World, FineTuneJobStatus]]


def first_sight() -> tuple[World, FineTuneJobStatus]:
    world = a_world()
    return world, world.status


def bound() -> tuple[World, FineTuneJobStatus]:
    world = a_planned_world()
    return world.schedule("bot-0-0"), world.status


def preflight_ended() -> tuple[World, FineTuneJobStatus]:
    world = a_world().settle()
    return world.run("bot-preflight-1").end("bot-preflight-1", 0, examined()), world.status


def preflight_failed() -> tuple[World, FineTuneJobStatus]:
    world = a_world().settle()
    return world.run("bot-preflight-1").end("bot-preflight-1", 1, a_failure()), world.status


def only_the_plan() -> tuple[World, FineTuneJobStatus]:
    world = a_world(planOnly=True).settle()
    return world.run("bot-preflight-1").end("bot-preflight-1", 0, examined()), world.status


def runs() -> tuple[World, FineTuneJobStatus]:
    world = a_planned_world()
    return world.run("bot-0-0"), world.status


def reports() -> tuple[World, FineTuneJobStatus]:
    world = a_training_world()
    return world.report(a_progress(5)), world.status


def publishes() -> tuple[World, FineTuneJobStatus]:
    world = a_training_world()
    return world.end("bot-0-0", 0, published()), world.status


def suspends() -> tuple[World, FineTuneJobStatus]:
    world = a_world().settle()
    return world.edit(suspend=True), world.status


@pytest.mark.parametrize("change", [first_sight, bound])
def test_what_the_next_pass_finds_again_may_wait(change: Change):
    """That preflight has begun, or that a Pod has a node: the Pods say so themselves."""
    world, before = change()

    assert may_wait(before, world.one_pass().status)


@pytest.mark.parametrize(
    "change",
    [preflight_ended, preflight_failed, only_the_plan, runs, reports, publishes, suspends],
)
def test_what_is_decided_counted_or_ended_is_written_at_once(change: Change):
    """Plan and attempt before the Pods are created, the time of a retry, every end, every pause, and that it runs."""
    world, before = change()
    after = world.one_pass().status

    assert after != before
    assert not may_wait(before, after)


def test_a_job_whose_passing_statuses_are_never_written_ends_as_any_other():
    """Nothing is created twice, and the end is the same."""
    told, held = a_world(), a_world()
    held.patient = True
    for world in (told, held):
        world.settle().run("bot-preflight-1").settle().end("bot-preflight-1", 0, examined())
        world.settle().schedule("bot-0-0").settle().run("bot-0-0").settle().end("bot-0-0", 0, published())
        world.settle()

    assert held.status == told.status
    assert held.created == told.created == ["bot-preflight-1", "bot-0-0"]
