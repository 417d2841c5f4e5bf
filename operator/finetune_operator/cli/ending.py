"""How a job ends, waited for. Called by wait."""

import asyncio
from enum import IntEnum

from finetune_operator.cli.job_text import ended, reason_line
from finetune_operator.cli.jobs import JobNotFound, Jobs
from finetune_operator.errors import ClusterUnavailable


class WaitExit(IntEnum):
    """How the waiting ended."""

    SUCCEEDED = 0
    FAILED = 1
    TIMEOUT = 2
    NOT_FOUND = 3
    UNREACHABLE = 4


async def wait_for_end(jobs: Jobs, name: str, seconds: float) -> tuple[WaitExit, str]:
    """Wait until the job has ended or the time is up; say how it stands."""
    last = "its status is not known yet"
    try:
        async with asyncio.timeout(seconds or None):
            async for job in jobs.follow(name):
                last = reason_line(job)
                if (well := ended(job)) is not None:
                    return (WaitExit.SUCCEEDED if well else WaitExit.FAILED), last
    except TimeoutError:
        return WaitExit.TIMEOUT, f"not finished after {seconds:g} s; {last}"
    except JobNotFound as error:
        return WaitExit.NOT_FOUND, str(error)
    except ClusterUnavailable as error:
        return WaitExit.UNREACHABLE, str(error)
    raise AssertionError("following a job never ends by itself")
