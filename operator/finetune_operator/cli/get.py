"""`finetune get`: the jobs of a namespace as a table, or one of them with its conditions and attempts."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from finetune_operator.cli.job_text import COLUMNS, details, row
from finetune_operator.cli.jobs import Jobs, with_jobs
from finetune_operator.cli.options import Context, Kubeconfig, Namespace


def table(rows: list[tuple[str, ...]]) -> str:
    """Return rows as aligned columns."""
    widths = [max(len(each[column]) for each in rows) for column in range(len(rows[0]))]
    lines = ("   ".join(cell.ljust(width) for cell, width in zip(each, widths, strict=True)) for each in rows)
    return "\n".join(each.rstrip() for each in lines)


def command(
    name: Annotated[str, typer.Argument(help="Name of a FineTuneJob. Default: list all jobs.")] = "",
    *,
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="List the jobs of all namespaces.")
    ] = False,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """List the jobs, or show one of them."""
    if name and all_namespaces:
        raise typer.BadParameter(
            "a job name and --all-namespaces cannot be combined: use -n NAMESPACE, or leave out the name"
        )

    async def show(jobs: Jobs) -> str:
        now = datetime.now(UTC)
        if name:
            return details(await jobs.get(name), now)
        found = await jobs.list(everywhere=all_namespaces)
        if not found:
            return "no FineTuneJobs found" + ("" if all_namespaces else f" in namespace {jobs.namespace}")
        if not all_namespaces:
            return table([COLUMNS, *(row(job, now) for job in found)])
        return table([("NAMESPACE", *COLUMNS), *((job.metadata.namespace, *row(job, now)) for job in found)])

    print(with_jobs((kubeconfig, context, namespace), show))
