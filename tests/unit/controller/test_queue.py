"""The promises of the work queue's docstring, one test each, on a real event loop."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from finetune_operator.controller.queue import LONGEST_BACK_OFF_SECONDS, WorkQueue
from finetune_operator.errors import ClusterUnavailable, Conflict

from tests.unit.controller.scripted import until

Work = Callable[[str], Awaitable[float | None]]


async def worked(queue: WorkQueue, work: Work, done: Callable[[], bool], workers: int = 4) -> None:
    """Run the queue until `done`."""
    running = asyncio.create_task(queue.run(work, workers))
    await until(done)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_key_is_pending_at_most_once():
    """A thousand events about one job cost one pass."""
    queue, passes = WorkQueue(), []

    async def work(key: str) -> None:
        passes.append(key)

    for _ in range(1000):
        queue.put("a")
    queue.put("b")
    await worked(queue, work, lambda: len(passes) >= 2)

    assert passes == ["a", "b"]


async def test_a_key_has_one_pass_at_a_time_and_one_more_after_a_put_meanwhile():
    """What happened during a pass is looked at by the next one, never by a second one beside it."""
    queue, log, gate = WorkQueue(), [], asyncio.Event()

    async def work(key: str) -> None:
        log.append("begin")
        if len(log) == 1:
            queue.put(key)
            queue.put(key)
            gate.set()
            await asyncio.sleep(0)
        log.append("end")

    queue.put("a")
    await worked(queue, work, lambda: log.count("end") == 2)

    assert log == ["begin", "end", "begin", "end"]


async def test_different_keys_are_worked_on_side_by_side():
    """A job that waits for the API server does not hold up the others."""
    queue, both = WorkQueue(), asyncio.Barrier(2)
    met: list[str] = []

    async def work(key: str) -> None:
        await both.wait()
        met.append(key)

    queue.put("a")
    queue.put("b")
    await worked(queue, work, lambda: len(met) == 2)

    assert sorted(met) == ["a", "b"]


async def test_an_immediate_put_overtakes_a_delayed_one():
    """An event does not wait for the next planned pass, and that one does not come on top."""
    queue, passes = WorkQueue(), []

    async def work(key: str) -> None:
        passes.append(key)

    queue.put("a", delay=3600)
    queue.put("a")
    await worked(queue, work, lambda: bool(passes))

    assert (passes, queue._timers) == (["a"], {})


async def test_of_two_delays_the_shorter_counts():
    """A later deadline never hides an earlier one."""
    queue = WorkQueue()
    loop = asyncio.get_running_loop()

    queue.put("a", delay=100)
    queue.put("a", delay=50)
    queue.put("a", delay=200)

    assert round(queue._timers["a"].when() - loop.time()) == 50
    queue.forget("a")


async def test_the_delay_that_a_pass_returns_brings_the_next_one():
    """A pass says itself when it wants to look again."""
    queue, passes = WorkQueue(), []

    async def work(key: str) -> float | None:
        passes.append(key)
        return 0.01 if len(passes) < 3 else None

    queue.put("a")
    await worked(queue, work, lambda: len(passes) == 3)

    assert queue._timers == {}


async def test_a_failing_key_backs_off_alone_and_success_forgets():
    """One broken job is retried more and more rarely; the next failure after a success starts anew."""
    queue, tries, others = WorkQueue(), [], []

    async def work(key: str) -> None:
        if key == "good":
            others.append(key)
            return
        tries.append(queue._failures.get("bad", 0))
        if len(tries) < 3:
            raise ClusterUnavailable("down")

    queue.put("bad")
    queue.put("good")
    await worked(queue, work, lambda: len(tries) == 3)

    assert (tries, others, queue._failures) == ([0, 1, 2], ["good"], {})


def test_back_off_grows_to_five_minutes_and_no_further():
    """The delays double from the first one, within the jitter of a fifth."""
    queue = WorkQueue()

    delays = [queue._back_off("a", 0.2) for _ in range(30)]

    expected = [min(LONGEST_BACK_OFF_SECONDS, 0.2 * 2**failures) for failures in range(30)]
    assert all(0.8 * want <= delay <= 1.2 * want for delay, want in zip(delays, expected, strict=True))


async def test_a_conflict_is_looked_at_again_at_once():
    """Somebody wrote first: the newer version is on its way."""
    queue, tries = WorkQueue(), []

    async def work(key: str) -> None:
        tries.append(key)
        if len(tries) == 1:
            raise Conflict("the object has been modified")

    queue.put("a")
    await worked(queue, work, lambda: len(tries) == 2)

    assert queue._failures == {}


async def test_closing_lets_passes_end_and_starts_no_more():
    """SIGTERM leaves nothing half done and nothing new begun."""
    queue, log, begun, finish = WorkQueue(), [], asyncio.Event(), asyncio.Event()

    async def work(key: str) -> None:
        log.append(f"begin {key}")
        begun.set()
        await finish.wait()
        log.append(f"end {key}")

    queue.put("a")
    queue.put("b")
    running = asyncio.create_task(queue.run(work, 1))
    await begun.wait()
    asyncio.get_running_loop().call_soon(finish.set)  # when closing has begun
    finished = await queue.close(5)
    queue.put("c")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert (finished, log) == (True, ["begin a", "end a"])


async def test_closing_gives_up_on_a_pass_that_hangs():
    """The process ends in time, whatever the API server does."""
    queue, begun = WorkQueue(), asyncio.Event()

    async def work(_: str) -> None:
        begun.set()
        await asyncio.Event().wait()

    queue.put("a")
    running = asyncio.create_task(queue.run(work, 1))
    await begun.wait()
    finished = await queue.close(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert finished is False


async def test_closing_an_idle_queue_takes_no_time():
    """Nothing in progress: nothing to wait for."""
    assert await WorkQueue().close(60) is True


async def test_passes_that_wait_for_nothing_let_others_have_a_turn():
    """A backlog of a thousand jobs must not hold up the renewal of the lease."""
    queue, passes, turns = WorkQueue(), [], 0

    async def work(key: str) -> None:
        passes.append(key)

    async def renewal() -> None:
        nonlocal turns
        while True:
            turns += len(passes) < 1000
            await asyncio.sleep(0)

    for number in range(1000):
        queue.put(str(number))
    other = asyncio.create_task(renewal())
    await worked(queue, work, lambda: len(passes) == 1000, workers=16)
    other.cancel()

    assert turns > 1000 / 16 / 2


async def test_what_is_urgent_overtakes_what_is_not():
    """A key that waits already moves up, and is worked on once."""
    queue, passes = WorkQueue(), []

    async def work(key: str) -> None:
        passes.append(key)

    for key in ("plan-1", "plan-2", "ended"):
        queue.put(key)
    queue.put("ended", urgent=True)
    queue.put("ended")
    queue.put("plan-3")
    await worked(queue, work, lambda: len(passes) >= 4, workers=1)

    assert passes == ["ended", "plan-1", "plan-2", "plan-3"]


async def test_what_becomes_urgent_during_a_pass_overtakes_too():
    """The end of a Pod comes in while the pass over its start waits for an answer."""
    queue, passes = WorkQueue(), []

    async def work(key: str) -> None:
        passes.append(key)
        if passes == ["a"]:
            queue.put("a", urgent=True)

    for key in ("a", "b", "c"):
        queue.put(key)
    await worked(queue, work, lambda: len(passes) >= 4, workers=1)

    assert passes == ["a", "a", "b", "c"]
