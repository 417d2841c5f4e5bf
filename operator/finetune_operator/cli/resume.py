"""`finetune resume`: let a suspended job continue, with a raised limit where that suspended it."""

from typing import Annotated

import typer

from finetune_operator.cli.complete import fields
from finetune_operator.cli.options import Context, Kubeconfig, Name, Namespace


def command(
    name: Name,
    *,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PATH=VALUE",
            help="Raise a limit, such as runPolicy.budget.maxCostUSD=40; repeatable.",
            autocompletion=fields,
        ),
    ] = None,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Resume a suspended job from its checkpoint."""
    from finetune_operator.cli.jobs import Jobs, with_jobs  # noqa: PLC0415  # help needs no client
    from finetune_operator.cli.set_field import changed  # noqa: PLC0415
    from finetune_operator.cli.submitting import resume  # noqa: PLC0415

    async def work(jobs: Jobs) -> list[str]:
        before = (await jobs.raw(name))["spec"]
        after = changed(before, changes or ())
        return await resume(jobs, name, {key: value for key, value in after.items() if before.get(key) != value})

    print("\n".join(with_jobs((kubeconfig, context, namespace), work)))
