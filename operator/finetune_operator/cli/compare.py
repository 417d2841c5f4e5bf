"""`finetune compare`: jobs side by side, settings and results; their curves as a picture if asked for."""

from typing import Annotated

import typer

from finetune_operator.cli.complete import job_names
from finetune_operator.cli.options import Claims, Context, Kubeconfig, Namespace, joined
from finetune_operator.errors import FinetuneError


def command(
    names: Annotated[
        list[str], typer.Argument(metavar="JOB...", help="Names of two or more FineTuneJobs.", autocompletion=job_names)
    ],
    *,
    plot: Annotated[
        str, typer.Option("--plot", metavar="FILE.svg", help="Also draw their loss curves into this file.")
    ] = "",
    claim: Claims = None,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Print the settings and the results in which jobs differ. The best of each result is marked with a star."""
    if len(names) < 2 or len(set(names)) < len(names):
        raise FinetuneError("name two or more different jobs: finetune compare A B")
    if plot and not plot.endswith(".svg"):
        raise FinetuneError(f"--plot {plot} does not end in .svg: the curves are drawn as SVG")
    from finetune_operator.cli.compare_text import comparison  # noqa: PLC0415  # help needs none of this
    from finetune_operator.cli.curves import curves_of  # noqa: PLC0415
    from finetune_operator.cli.jobs import Jobs, with_jobs  # noqa: PLC0415
    from finetune_operator.cli.output import write_file  # noqa: PLC0415
    from finetune_operator.cli.plans import whole  # noqa: PLC0415
    from finetune_operator.cli.svg_curves import Curve, picture  # noqa: PLC0415

    claims = joined(claim or [], "--claim")

    async def work(jobs: Jobs) -> tuple[list[str], str]:
        found = [await whole(jobs, name) for name in names]
        if not plot:
            return comparison(found), ""
        curves = [Curve(name=job.metadata.name, points=(await curves_of(jobs, job, claims)).loss) for job in found]
        return comparison(found), picture(curves, title="training loss")

    lines, drawn = with_jobs((kubeconfig, context, namespace), work)
    print("\n".join(lines))
    if plot:
        print(f"\nwrote {write_file(plot, drawn)}")
