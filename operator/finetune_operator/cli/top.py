"""`finetune top`: GPUs that run and wait, and dollars, now and this month, by namespace, user, pool or model."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

import typer

from finetune_operator.api.status import FineTuneJob
from finetune_operator.cli.jobs import Jobs, with_jobs
from finetune_operator.cli.options import Context, Kubeconfig, Namespace
from finetune_operator.cli.output import Output, allowed, print_object
from finetune_operator.cli.tables import aligned
from finetune_operator.cli.usage import Group, Use, by_group, month_begin, total

COLUMNS = ("RUNNING", "GPUS", "WAITING", "GPUS-WAITING", "$/HOUR", "$-THIS-MONTH")


def command(
    by: Annotated[Group, typer.Option(help="What to add up by: namespace, user, pool or model.")] = "namespace",
    *,
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Count the jobs of all namespaces.")
    ] = False,
    output: Output = "",
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Show the GPUs of running and waiting jobs, and what they cost now and this month.

    Deleted jobs do not count; the ledger of a FineTunePolicy has them (`kubectl get ftp`). A user is known where the chart's
    createdBy.enabled is set.
    """
    shape = allowed(output, "json", "yaml")

    async def read(jobs: Jobs) -> tuple[FineTuneJob, ...]:
        return await jobs.list(everywhere=all_namespaces)

    now = datetime.now(UTC)
    found = by_group(with_jobs((kubeconfig, context, namespace), read), by, month_begin(now), now)
    if shape:
        print_object([{by: key, **in_words(use)} for key, use in found.items()], shape)
        return
    if not found:
        print("no FineTuneJobs found")
        return
    rows = [(key, *row(use)) for key, use in found.items()]
    last = [("total", *row(total(list(found.values()))))] if len(found) > 1 else []
    print("\n".join(aligned([(by.upper(), *COLUMNS), *rows, *last])))


def row(use: Use) -> tuple[str, ...]:
    """Return the cells of a line."""
    counts = (use.running_jobs, use.running_gpus, use.waiting_jobs, use.waiting_gpus)
    return (*map(str, counts), money(use.usd_per_hour), money(use.usd))


def money(usd: Decimal) -> str:
    """Return an amount with cents."""
    return f"{usd:,.2f}"


def in_words(use: Use) -> dict[str, int | str]:
    """Return the figures for programs: decimals are strings."""
    return {
        "runningJobs": use.running_jobs,
        "runningGPUs": use.running_gpus,
        "waitingJobs": use.waiting_jobs,
        "waitingGPUs": use.waiting_gpus,
        "usdPerHour": f"{use.usd_per_hour:.2f}",
        "usdThisMonth": f"{use.usd:.2f}",
    }
