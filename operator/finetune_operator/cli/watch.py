"""`finetune watch`: follow jobs live until they end. Drawn in place on a terminal, a line for each change elsewhere."""

from typing import Annotated

import typer

from finetune_operator.cli.complete import job_names
from finetune_operator.cli.options import Context, Kubeconfig, Namespace


def command(
    name: Annotated[
        str, typer.Argument(help="Name of a FineTuneJob. Default: all of the namespace.", autocompletion=job_names)
    ] = "",
    *,
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Follow the jobs of all namespaces.")
    ] = False,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Follow one job, or all, live until they finish. Exits with 1 if a job fails."""
    if name and all_namespaces:
        raise typer.BadParameter(
            "a job name and --all-namespaces cannot be combined: use -n NAMESPACE, or leave out the name"
        )
    from finetune_operator.cli.jobs import continues, with_jobs  # noqa: PLC0415  # help needs no client
    from finetune_operator.cli.watch_draw import watch_all, watch_one  # noqa: PLC0415

    options = (kubeconfig, context, namespace)
    if name:
        well = with_jobs(options, lambda jobs: watch_one(jobs, name), interrupted=continues(name))
    else:
        well = with_jobs(options, lambda jobs: watch_all(jobs, everywhere=all_namespaces))
    raise typer.Exit(0 if well else 1)
