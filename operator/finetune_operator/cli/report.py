"""`finetune report`: everything about a job as one HTML file that can be mailed, archived and read without a network."""

import webbrowser
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from finetune_operator.cli.options import Claims, Context, Kubeconfig, Name, Namespace, joined


def command(
    name: Name,
    *,
    to: Annotated[str, typer.Option("--to", help="File to write. Default: JOB.html.")] = "",
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    claim: Claims = None,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Write an HTML report: curves, plan and actual figures, attempts, answers, data and provenance. An existing file is replaced."""
    from finetune_operator.cli.curves import curves_of  # noqa: PLC0415  # help needs none of this
    from finetune_operator.cli.jobs import Jobs, with_jobs  # noqa: PLC0415
    from finetune_operator.cli.output import write_file  # noqa: PLC0415
    from finetune_operator.cli.plans import whole  # noqa: PLC0415
    from finetune_operator.cli.report_page import Report, report_page  # noqa: PLC0415

    claims = joined(claim or [], "--claim")

    async def work(jobs: Jobs) -> str:
        job = await whole(jobs, name)
        return report_page(Report(job=job, curves=await curves_of(jobs, job, claims), written=datetime.now(UTC)))

    file = write_file(to or f"{name}.html", with_jobs((kubeconfig, context, namespace), work))
    print(f"wrote {file}")
    if show:
        webbrowser.open(Path(file).resolve().as_uri())
