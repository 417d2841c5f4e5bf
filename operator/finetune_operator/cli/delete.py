"""`finetune delete`: delete a job; with --with-checkpoints what it kept to continue from, too. Published results stay."""

import sys
from typing import Annotated

import typer

from finetune_operator.cli.options import Claims, Context, Kubeconfig, Name, Namespace, joined


def command(
    name: Name,
    *,
    with_checkpoints: Annotated[
        bool,
        typer.Option("--with-checkpoints", help="Also delete its checkpoints, prepared rows and stored logs."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    claim: Claims = None,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Delete a job and its Pods. What it has published stays."""
    from finetune_operator.cli.deleting import delete, question  # noqa: PLC0415
    from finetune_operator.cli.jobs import with_jobs  # noqa: PLC0415

    options, claims = (kubeconfig, context, namespace), joined(claim or [], "--claim")
    if sys.stdin.isatty() and not yes:
        typer.confirm(
            question(with_jobs(options, lambda jobs: jobs.get(name)), with_checkpoints=with_checkpoints), abort=True
        )
    print("\n".join(with_jobs(options, lambda jobs: delete(jobs, name, claims if with_checkpoints else None))))
