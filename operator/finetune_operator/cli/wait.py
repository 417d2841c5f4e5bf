"""`finetune wait`: wait for the end of a job; the exit code says how it ended. For scripts and CI."""

import asyncio
import sys
from enum import IntEnum
from typing import Annotated

import typer

from finetune_operator.cli.job_text import ended, reason_line
from finetune_operator.cli.jobs import JobNotFound, Jobs, with_jobs
from finetune_operator.cli.options import Context, Kubeconfig, Name, Namespace
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


def command(
    name: Name,
    *,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait. 0 means no limit.")] = 0,  # an option
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Wait until a job finishes. Exit codes: 0 succeeded, 1 failed, 2 timed out, 3 job not found, 4 API server unreachable."""

    async def wait(jobs: Jobs) -> tuple[WaitExit, str]:
        return await wait_for_end(jobs, name, timeout)

    try:
        code, words = with_jobs((kubeconfig, context, namespace), wait)
    except ClusterUnavailable as error:  # a kubeconfig that is missing or broken: 1 would say that the job failed
        code, words = WaitExit.UNREACHABLE, str(error)
    print(f"{name}: {words}", file=sys.stdout if code is WaitExit.SUCCEEDED else sys.stderr)
    raise typer.Exit(code)
