"""`finetune submit`: create the job of a file, say whether somebody looks after it, and what to type next."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from finetune_operator.cli.options import Context, Kubeconfig, Namespace, must_exist
from finetune_operator.errors import FinetuneError


def command(
    file: Annotated[Path, typer.Argument(help="YAML file with the FineTuneJob; - for standard input.")],
    *,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Create the job of a file. The manifest is checked as `finetune plan` does before it is sent."""
    from finetune_operator.cli.jobs import Jobs, with_jobs  # noqa: PLC0415  # help needs no client
    from finetune_operator.cli.manifest_file import read_job  # noqa: PLC0415
    from finetune_operator.cli.submitting import submit  # noqa: PLC0415

    must_exist(file)
    job = read_job(file)
    wanted = one_namespace(job.raw, namespace)

    async def create(jobs: Jobs) -> list[str]:
        return await submit(jobs, job.raw)

    for line in with_jobs((kubeconfig, context, wanted), create):
        print(line)


def one_namespace(raw: Mapping[str, Any], option: str) -> str:
    """Return the namespace that file and option agree on; empty where neither names one."""
    written = str(raw["metadata"].get("namespace") or "")
    if written and option and written != option:
        raise FinetuneError(f"the file names the namespace {written}, and -n names {option}: leave one of them out")
    return option or written
