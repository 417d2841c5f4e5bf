"""`finetune get`: the jobs of a namespace as a table, or one of them in words."""

import sys
from datetime import UTC, datetime
from shutil import get_terminal_size
from typing import Annotated

import typer

from finetune_operator.cli.complete import job_names
from finetune_operator.cli.options import Context, Kubeconfig, Namespace
from finetune_operator.cli.output import Output, allowed


def command(
    name: Annotated[
        str, typer.Argument(help="Name of a FineTuneJob. Default: list all jobs.", autocompletion=job_names)
    ] = "",
    *,
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="List the jobs of all namespaces.")
    ] = False,
    output: Output = "",
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """List the jobs, or show one of them. A terminal that is narrow gets fewer columns; -o wide and a pipe get all."""
    if name and all_namespaces:
        raise typer.BadParameter(
            "a job name and --all-namespaces cannot be combined: use -n NAMESPACE, or leave out the name"
        )
    shape = allowed(output, "json", "yaml", "name", "wide")
    from finetune_operator.cli.getting import show_all, show_one  # noqa: PLC0415  # help needs no client
    from finetune_operator.cli.jobs import with_jobs  # noqa: PLC0415

    options, now = (kubeconfig, context, namespace), datetime.now(UTC)
    width = get_terminal_size().columns if sys.stdout.isatty() and not shape else 0
    if name:
        text = with_jobs(options, lambda jobs: show_one(jobs, name, now, shape, width=width))
    else:
        text = with_jobs(options, lambda jobs: show_all(jobs, now, shape, width=width, everywhere=all_namespaces))
    print(text, end="")
