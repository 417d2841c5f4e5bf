"""`finetune rerun`: the same job again under another name, with some fields changed."""

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
            help="Change a field of the spec, such as training.learningRate=1e-4; repeatable. No value removes it.",
            autocompletion=fields,
        ),
    ] = None,
    new_name: Annotated[
        str, typer.Option("--name", help="Name of the new job. Default: JOB-2, or the next free number.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the new job instead of creating it.")] = False,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Run a job again under a new name, with some fields changed. Its result goes to a place of its own."""
    from finetune_operator.api.group import API_VERSION, JOB_KIND  # noqa: PLC0415  # help needs none of this
    from finetune_operator.cli.differences import change_lines, whole, written  # noqa: PLC0415
    from finetune_operator.cli.jobs import Jobs, with_jobs  # noqa: PLC0415
    from finetune_operator.cli.output import in_shape  # noqa: PLC0415
    from finetune_operator.cli.rerun_text import next_name, repeated  # noqa: PLC0415
    from finetune_operator.cli.set_field import changed  # noqa: PLC0415
    from finetune_operator.cli.submitting import submit  # noqa: PLC0415

    async def work(jobs: Jobs) -> list[str]:
        before = (await jobs.raw(name))["spec"]
        taken = {job.metadata.name for job in await jobs.list()}
        title = new_name or next_name(name, taken)
        spec = changed(repeated(written(before), name, title), changes or ())
        document = {"apiVersion": API_VERSION, "kind": JOB_KIND, "metadata": {"name": title}, "spec": spec}
        if dry_run:
            return in_shape(document, "yaml").splitlines()
        said = await submit(jobs, document)
        return [f"{title} is {name} with", *(f"  {line}" for line in change_lines(whole(before), whole(spec))), *said]

    print("\n".join(with_jobs((kubeconfig, context, namespace), work)))
