"""`finetune wait`: wait for the end of a job; the exit code says how it ended. For scripts and CI."""

import sys
from typing import Annotated

import typer

from finetune_operator.cli.options import Context, Kubeconfig, Name, Namespace


def command(
    name: Name,
    *,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait. 0 means no limit.")] = 0,  # an option
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Wait until a job finishes. Exit codes: 0 succeeded, 1 failed, 2 timed out, 3 job not found, 4 API server unreachable."""

    from finetune_operator.cli.ending import WaitExit, wait_for_end  # noqa: PLC0415  # help needs no client
    from finetune_operator.cli.jobs import Jobs, with_jobs  # noqa: PLC0415
    from finetune_operator.errors import ClusterUnavailable  # noqa: PLC0415

    async def wait(jobs: Jobs) -> tuple[WaitExit, str]:
        return await wait_for_end(jobs, name, timeout)

    try:
        code, words = with_jobs((kubeconfig, context, namespace), wait)
    except ClusterUnavailable as error:  # a kubeconfig that is missing or broken: 1 would say that the job failed
        code, words = WaitExit.UNREACHABLE, str(error)
    print(f"{name}: {words}", file=sys.stdout if code is WaitExit.SUCCEEDED else sys.stderr)
    raise typer.Exit(code)
