"""The API server's faults, on each verb, and those of the way to it: the same end as without them."""

import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable

import pytest

from tests.cluster.faults import Refusal
from tests.cluster.stories import STORIES, Ending, Open, differences, sample, undisturbed

pytestmark = pytest.mark.cluster

SEED = 20260131
TIMES = 3
"""So often each verb is refused for each resource, before it is let through."""

RETRY_AFTER = (("Retry-After", "1"),)
ANSWERS = {
    "refused connections": Refusal(0),
    "401": Refusal(401),
    "403": Refusal(403),
    "409": Refusal(409),
    "410": Refusal(410),
    "429": Refusal(429, RETRY_AFTER),
    "500": Refusal(500),
    "503": Refusal(503, RETRY_AFTER),
}
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete")
CASES = [f"{answer} to {verb}" for answer, verb in itertools.product(ANSWERS, VERBS)]


@pytest.fixture(scope="module")
def expected(curtains: Open) -> Ending:
    """How all stories end without faults."""
    return undisturbed(curtains, *STORIES.values())[0]


def refuses(verb: str, refusal: Refusal) -> Callable[[str, str], Refusal | None]:
    """Refuse a verb so many times for each kind of thing, every second time."""
    seen: Counter[str] = Counter()

    def answer(asked: str, path: str) -> Refusal | None:
        kind = path.rsplit("/", 1)[-1] if asked in ("list", "watch", "create") else path.split("/")[-2]
        if asked != verb or "/leases" in path or "/events" in path:
            return None
        seen[kind] += 1
        return refusal if seen[kind] <= 2 * TIMES and seen[kind] % 2 else None

    return answer


@pytest.mark.parametrize("case", sample(CASES, 1, SEED))
def test_refused_answers_change_nothing(curtain: Open, expected: Ending, case: str):
    """All stories side by side; an operator that ends with a failure is started again, as by a Deployment."""
    answer, _, verb = case.partition(" to ")
    stage = curtain()
    stage.proxy.refusal = refuses(verb, ANSWERS[answer])
    stage.operator.start()

    assert differences(stage.play(list(STORIES.values())), expected) == []
    assert "Traceback" not in stage.operator.text


Line = dict[str, object]


def lines(kind: str) -> Callable[[Line], tuple[float, ...]]:
    """Drop, delay or repeat about every third watch line."""
    dice, lock = random.Random(SEED), threading.Lock()
    delays: dict[str, tuple[float, ...]] = {"dropped": (), "delayed": (1.5,), "repeated": (0, 0, 0.7)}

    def of(_: Line) -> tuple[float, ...]:
        with lock:
            return delays[kind] if dice.random() < 1 / 3 else (0,)

    return of


@pytest.mark.parametrize("kind", sample(["dropped", "delayed", "repeated"], 1, SEED))
def test_watches_that_lose_delay_and_repeat_lines_change_nothing(curtain: Open, expected: Ending, kind: str):
    """What a watch does not tell, a comparison finds; what it tells late or twice is no news."""
    stage = curtain()
    stage.proxy.delays = lines(kind)
    stage.operator.start()

    assert differences(stage.play(list(STORIES.values())), expected) == []
    assert "Traceback" not in stage.operator.text


LAGS: dict[str, tuple[int, ...]] = {"one behind": (1,), "three behind": (3,), "behind now and then": (0, 0, 3, 0, 2)}
STALE_LISTS = 15
"""So many lists of each kind are stale; then the server has caught up."""


class Stale:
    """Lists as they were some lists ago, for a while; then those of now."""

    def __init__(self, lags: tuple[int, ...]) -> None:
        self.lags = lags
        self.answers: dict[str, list[bytes]] = {}

    def __call__(self, path: str, content: bytes) -> bytes:
        past = self.answers.setdefault(path, [])
        past.append(content)
        number = len(past) - 1
        return past[max(0, number - self.lags[number % len(self.lags)])] if number < STALE_LISTS else content


@pytest.mark.parametrize("how", sample(LAGS, 1, SEED))
def test_stale_lists_change_nothing(curtain: Open, expected: Ending, how: str):
    """An API server that lags shows what was; what the watches and our own writes have told since then holds."""
    stage = curtain()
    stage.proxy.listed = Stale(LAGS[how])
    stage.operator.start()

    assert differences(stage.play(list(STORIES.values())), expected) == []
    assert "Traceback" not in stage.operator.text
