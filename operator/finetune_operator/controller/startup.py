"""Before the operator works: wait until the API server answers, and see that it serves our kinds. Called by process."""

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from finetune_operator.api.group import API_VERSION, JOB_PLURAL, PLAN_PLURAL, POOL_PLURAL
from finetune_operator.controller.api import Answer, Api
from finetune_operator.errors import ClusterUnavailable, FinetuneError

log = logging.getLogger(__name__)

GARBAGE_THRESHOLDS = (20_000, 20, 20)
"""New objects per search; about 2 MB."""

T = TypeVar("T")

REQUIRED = (JOB_PLURAL, PLAN_PLURAL, POOL_PLURAL)

START_SECONDS = 60.0
"""How long we wait for the API server at the start."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 15.0
"""Between two tries; doubled each time, so that the log of a minute is seven lines."""


async def answered(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until the API server answers, with growing pauses, for a minute. Then its silence ends the process."""
    deadline, pause = asyncio.get_running_loop().time() + START_SECONDS, FIRST_PAUSE_SECONDS
    while True:
        try:
            return await ask()
        except ClusterUnavailable as error:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                raise
            pause = min(pause, left)
            log.warning("waiting for the API server", extra={"why": str(error), "again_in_seconds": round(pause)})
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


async def require_crds(api: Api) -> None:
    """Fail now if the CRDs are missing: kopf would never serve them, silently."""

    async def discover() -> Answer:
        """Raises ClusterUnavailable for an API server that is overloaded or starting (429, 5xx)."""
        answer = await api.get(f"/apis/{API_VERSION}")
        if answer.status not in (401, 404):
            answer.check(200)
        return answer

    answer = await answered(discover)
    served = {each["name"] for each in answer.body.get("resources", ())}
    if answer.status == 401:
        raise ClusterUnavailable("the API server rejects the operator's credentials (401)")
    if missing := [plural for plural in REQUIRED if plural not in served]:
        what = f"{', '.join(missing)} of {API_VERSION}"
        raise FinetuneError(f"the API server does not serve {what}: run `kubectl apply --server-side -f crds/`")


def settle_memory() -> None:
    """Look for garbage once, and from now on only among what comes: modules and models stay.

    Otherwise every few hundred objects, which one job read from JSON has, set off a search, now and then among all.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
