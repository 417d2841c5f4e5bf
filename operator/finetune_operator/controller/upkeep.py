"""A status that follows the store, such as a pool's or a policy's. Called by pools and policies."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from finetune_operator.errors import FinetuneError

log = logging.getLogger(__name__)


async def keep_up(
    what: str, write: Callable[[], Awaitable[None]], dirty: asyncio.Event, *, pause: float, longest: float
) -> None:
    """Write for ever: after each change, at most once in `pause` seconds and at least once in `longest`."""
    while True:
        try:
            await write()
        except FinetuneError as error:
            log.warning("%s status could not be updated", what, extra={"error": str(error)})
        except Exception:  # a report that fails must not end the jobs
            log.exception("%s status could not be updated", what)
        await asyncio.sleep(pause)
        try:
            async with asyncio.timeout(longest):
                await dirty.wait()
        except TimeoutError:
            pass
