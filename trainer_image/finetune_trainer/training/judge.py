"""Ask a model elsewhere which of two answers is better, each pair twice with the places swapped. Called by measured, by rank 0 only.

Nothing that goes wrong here ends a run: rows without a verdict are left out, counted, and named.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx2
from finetune_contract import Metric

from finetune_trainer.errors import ReportedError
from finetune_trainer.evaluation.judging import Pair, messages, share_of_first
from finetune_trainer.evaluation.questions import Question
from finetune_trainer.evaluation.results import Judged, Said, preferred, rows_of
from finetune_trainer.storage import Role
from finetune_trainer.storage.addresses import credentials
from finetune_trainer.storage.secrecy import redacted

AT_ONCE = 8
TRIES = 4
PASSING = (408, 409, 425, 429, 500, 502, 503, 504)
GIVE_UP = 3 * AT_ONCE
"""Failures before the first success, after which nobody is asked any more."""

PAUSE_SECONDS = 1.0
"""Before the second try of a request; doubled each time."""

REQUEST_SECONDS = 60.0
MOST_SECONDS = 600.0
"""Of all requests of a metric: GPUs are held meanwhile. Rows that are not judged by then are left out."""


@dataclass(slots=True)
class Bill:
    """What the endpoint says that it was asked."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, usage: Any) -> None:
        """Count one answer."""
        told = usage if isinstance(usage, dict) else {}
        self.calls += 1
        self.prompt_tokens += int(told.get("prompt_tokens") or 0)
        self.completion_tokens += int(told.get("completion_tokens") or 0)

    @property
    def text(self) -> str:
        """The bill in words."""
        return f"{self.calls} calls, {self.prompt_tokens:,} tokens read and {self.completion_tokens:,} written"


class Judging:
    """One metric of type judge."""

    def __init__(
        self, metric: Metric, *, pause_seconds: float = PAUSE_SECONDS, most_seconds: float = MOST_SECONDS
    ) -> None:
        assert metric.judge is not None
        self.metric, self.judge, self.bill = metric, metric.judge, Bill()
        self._pause, self._deadline = pause_seconds, time.monotonic() + most_seconds

    def shares(self, pairs: Sequence[Pair]) -> list[float | None]:
        """Return for each pair how much of the preference the second answer gets; None where there is no verdict."""
        try:
            key = credentials(self.judge.endpoint, Role.DATASET).get("OPENAI_API_KEY", "")
        except ReportedError as error:
            self.bill.failures.append(error.message)
            return [None] * len(pairs)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with httpx2.Client(headers=headers, timeout=REQUEST_SECONDS) as client, ThreadPoolExecutor(AT_ONCE) as threads:
            return list(threads.map(lambda pair: self._share(client, pair), pairs))

    def _share(self, client: Any, pair: Pair) -> float | None:
        first = self._ask(client, pair)
        second = self._ask(client, pair.swapped) if first is not None else None
        return None if first is None or second is None else (1.0 - first + second) / 2

    def _ask(self, client: Any, pair: Pair) -> float | None:
        """Return the share of the first answer of a pair."""
        body = {"model": self.judge.model, "messages": messages(pair, self.judge.criteria), "temperature": 0}
        for number in range(TRIES):
            if not self.bill.calls and len(self.bill.failures) >= GIVE_UP:
                return None
            if time.monotonic() > self._deadline:
                self.bill.failures.append("the time limit was reached")
                return None
            again, share = self._tried(client, body)
            if not again:
                return share
            time.sleep(self._pause * 2**number)
        return None

    def _tried(self, client: Any, body: dict[str, Any]) -> tuple[bool, float | None]:
        """Return whether to ask again, and the share."""
        try:
            answer = client.post(f"{self.judge.endpoint.uri.rstrip('/')}/chat/completions", json=body)
            if (
                answer.status_code == 400 and "temperature" in body and "temperature" in answer.text
            ):  # reasoning models take none
                del body["temperature"]
                return True, None
            if answer.status_code != 200:
                self._failed(f"HTTP {answer.status_code}: {redacted(answer.text)[:200]}")
                return answer.status_code in PASSING, None
            told = answer.json()
            self.bill.add(told.get("usage"))
            share = share_of_first(told["choices"][0]["message"]["content"] or "")
        except httpx2.HTTPError as error:
            self._failed(f"{type(error).__name__}: {error}")
            return True, None
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            self._failed("an answer that is not in the format of OpenAI's API")
            return False, None
        if share is None:
            self._failed("an answer without a verdict")
        return False, share

    def _failed(self, why: str) -> None:
        self.bill.failures.append(redacted(" ".join(why.split())))


def judged_elsewhere(
    metric: Metric,
    asked: Sequence[int],
    pairs: Sequence[Pair],
    *,
    seed: int,
    say: Callable[[str], None],
    **limits: float,
) -> Judged | None:
    """Return what the judge says of the rows that it could judge; None where it judged none. `say` hears what it cost."""
    judging = Judging(metric, **limits)
    say(
        f"metric {metric.name}: asking {metric.judge.model if metric.judge else ''} about {len(pairs)} rows, twice each"
    )
    shares = judging.shares(pairs)
    kept = [(number, share) for number, share in zip(asked, shares, strict=True) if share is not None]
    left = len(pairs) - len(kept)
    why = f"; {left} of {len(pairs)} rows could not be judged: {judging.bill.failures[-1]}" if left else ""
    say(f"metric {metric.name}: {judging.bill.text}{why}")
    if not kept:
        return None
    bill = {
        "calls": judging.bill.calls,
        "promptTokens": judging.bill.prompt_tokens,
        "completionTokens": judging.bill.completion_tokens,
    }
    return preferred(
        metric, [number for number, _ in kept], [share for _, share in kept], seed=seed, note=f"{judging.bill.text}{why}",
        details={"judge": bill},
    )  # fmt: skip


def pairs_of(
    metric: Metric, evaluation: Any, questions: Sequence[Question], base: Sequence[Said], tuned: Sequence[Said],
    decode: Callable[[Sequence[int]], str],
) -> tuple[list[int], list[Pair]]:  # fmt: skip
    """Return the numbers of the questions of a metric, and what both models answered: base first."""
    asked = [number for number, question in enumerate(questions) if question.rows == rows_of(metric, evaluation)]
    return asked, [
        Pair(
            request=decode(questions[number].prompt), reference=questions[number].reference, first=base[number].text,
            second=tuned[number].text,
        )
        for number in asked
    ]  # fmt: skip
