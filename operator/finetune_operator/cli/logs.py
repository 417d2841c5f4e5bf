"""`finetune logs`: what a replica of an attempt printed, from its Pod or, when that is gone, from beside the checkpoints."""

from typing import Annotated

import typer

from finetune_operator.cli.options import Claims, Context, Kubeconfig, Name, Namespace, joined


def command(  # noqa: PLR0913  # one parameter per option is how typer works
    name: Name,
    *,
    preflight: Annotated[bool, typer.Option("--preflight", help="Print the log of the preflight Pod instead.")] = False,
    export: Annotated[bool, typer.Option("--export", help="Print the log of the export Pod instead.")] = False,
    previous: Annotated[bool, typer.Option("--previous", "-p", help="Print the log of the attempt before.")] = False,
    attempt: Annotated[
        int | None, typer.Option(min=1, help="Attempt whose log is printed, counted from 1. Default: the newest.")
    ] = None,
    replica: Annotated[int, typer.Option(min=0, help="Replica whose log is printed.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing until the job has ended.")] = False,
    progress: Annotated[bool, typer.Option("--progress", help="Also print the progress reports.")] = False,
    tail: Annotated[int, typer.Option(min=0, help="Print only the last N lines. 0 means all.")] = 0,
    claim: Claims = None,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Print the log of a job's trainer. When its Pod is gone, the log is read from beside the checkpoints."""
    from finetune_operator.cli.jobs import Jobs, continues, with_jobs  # noqa: PLC0415
    from finetune_operator.cli.log_following import follow_log  # noqa: PLC0415
    from finetune_operator.cli.log_reading import Wanted, attempt_of, print_log, refuse_senseless  # noqa: PLC0415

    claims = joined(claim or [], "--claim")
    refuse_senseless(preflight=preflight, export=export, previous=previous, attempt=attempt, follow=follow)

    async def read(jobs: Jobs) -> None:
        job = await jobs.get(name)
        number = attempt_of(job, previous=previous, attempt=attempt or 0)
        wanted = Wanted(preflight=preflight, export=export, attempt=number, replica=replica)
        if follow and not (preflight and job.status.run_digest):  # what is over is read as a whole
            await follow_log(jobs, job, wanted, progress=progress, tail=tail)
        else:
            await print_log(jobs, job, wanted, progress=progress, tail=tail, claims=claims)

    with_jobs((kubeconfig, context, namespace), read, interrupted=continues(name) if follow else "")
