"""`finetune cost`: what jobs have cost since a day, by namespace, user, pool or model."""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from finetune_operator.cli.options import By, Context, Kubeconfig, Namespace
from finetune_operator.cli.output import Output, allowed, print_object

if TYPE_CHECKING:
    from finetune_operator.cli.usage import Use

SPAN = re.compile(r"(?P<number>[1-9][0-9]{0,4})(?P<unit>[hdw])")
UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def moment_of(text: str, now: datetime) -> datetime:
    """Return the moment that --since names: a time ago such as 30d, or a day. Raises typer.BadParameter."""
    if found := SPAN.fullmatch(text):
        return now - int(found["number"]) * UNITS[found["unit"]]
    try:
        day = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is neither a time such as 24h, 30d or 8w nor a day such as 2026-11-01"
        ) from error
    return day if day.tzinfo else day.replace(tzinfo=UTC)


def command(
    since: Annotated[
        str, typer.Option(help="A time such as 24h, 30d or 8w, or a day such as 2026-11-01 (UTC).")
    ] = "30d",
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
    """Show what jobs have cost since a day. Deleted jobs do not count; Prometheus has them (finetune_cost_usd_total)."""
    shape, now = allowed(output, "json", "yaml"), datetime.now(UTC)
    begin = moment_of(since, now)
    from finetune_operator.cli.jobs import with_jobs  # noqa: PLC0415  # help needs no client
    from finetune_operator.cli.usage import by_group, with_total  # noqa: PLC0415

    jobs = with_jobs((kubeconfig, context, namespace), lambda found: found.list(everywhere=all_namespaces))
    spent = {key: use for key, use in by_group(jobs, by, begin, now).items() if use.jobs}
    if shape:
        costs = [{by: key, **in_words(use)} for key, use in spent.items()]
        print_object({"since": begin.isoformat(), "costs": costs}, shape)
    elif spent:
        print(with_total((by.upper(), "JOBS", "GPU-HOURS", "COST"), spent, row))
    else:
        print(f"no job has cost anything since {begin:%Y-%m-%d %H:%M} UTC")


def row(use: "Use") -> tuple[str, ...]:
    """Return the cells of a line."""
    return str(use.jobs), f"{use.gpu_hours:,.2f}", f"${use.usd:,.2f}"


def in_words(use: "Use") -> dict[str, int | str]:
    """Return the figures for programs: decimals are strings."""
    return {"jobs": use.jobs, "gpuHours": f"{use.gpu_hours:.4f}", "costUSD": f"{use.usd:.4f}"}
