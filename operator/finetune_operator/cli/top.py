"""`finetune top`: GPUs that run and wait, and dollars, now and this month, by namespace, user, pool or model."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from finetune_operator.cli.options import By, Context, Kubeconfig, Namespace
from finetune_operator.cli.output import Output, allowed, print_object

if TYPE_CHECKING:
    from finetune_operator.cli.usage import Use

COLUMNS = ("RUNNING", "GPUS", "WAITING", "GPUS-WAITING", "$/HOUR", "$-THIS-MONTH")


def command(
    by: By = "namespace",
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
    shape, now = allowed(output, "json", "yaml"), datetime.now(UTC)
    from finetune_operator.cli.jobs import with_jobs  # noqa: PLC0415  # help needs no client
    from finetune_operator.cli.usage import by_group, month_begin, with_total  # noqa: PLC0415

    jobs = with_jobs((kubeconfig, context, namespace), lambda found: found.list(everywhere=all_namespaces))
    found = by_group(jobs, by, month_begin(now), now)
    if shape:
        print_object([{by: key, **in_words(use)} for key, use in found.items()], shape)
    elif found:
        print(with_total((by.upper(), *COLUMNS), found, row))
    else:
        print("no FineTuneJobs found")


def row(use: "Use") -> tuple[str, ...]:
    """Return the cells of a line."""
    counts = (use.running_jobs, use.running_gpus, use.waiting_jobs, use.waiting_gpus)
    return (*map(str, counts), f"{use.usd_per_hour:,.2f}", f"{use.usd:,.2f}")


def in_words(use: "Use") -> dict[str, int | str]:
    """Return the figures for programs: decimals are strings."""
    return {
        "runningJobs": use.running_jobs,
        "runningGPUs": use.running_gpus,
        "waitingJobs": use.waiting_jobs,
        "waitingGPUs": use.waiting_gpus,
        "usdPerHour": f"{use.usd_per_hour:.2f}",
        "usdThisMonth": f"{use.usd:.2f}",
    }
