"""`finetune diff`: the settings in which two jobs, or files, differ."""

from pathlib import Path
from typing import Annotated, Any

import typer

from finetune_operator.cli.complete import job_names
from finetune_operator.cli.options import Context, Kubeconfig, Namespace, must_exist

FILES = (".yaml", ".yml", ".json")


def command(
    a: Annotated[str, typer.Argument(help="Name of a FineTuneJob, or a file with one.", autocompletion=job_names)],
    b: Annotated[str, typer.Argument(help="The other one.", autocompletion=job_names)],
    *,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Print the settings in which two jobs differ (defaults included)."""
    from finetune_operator.cli.differences import differing, whole  # noqa: PLC0415  # help needs none of this
    from finetune_operator.cli.tables import aligned  # noqa: PLC0415

    specs = [spec_of(each, (kubeconfig, context, namespace)) for each in (a, b)]
    rows = differing([whole(spec) for spec in specs])
    if not rows:
        print(f"{a} and {b} have the same settings")
        return
    print("\n".join(aligned([("SETTING", a, b), *((path, *values) for path, values in rows)])))


def is_file(given: str) -> bool:
    """Tell a file from the name of a job: names have no dots and slashes."""
    return given == "-" or given.endswith(FILES) or "/" in given


def spec_of(given: str, options: tuple[str, str, str]) -> dict[str, Any]:
    """Return the spec of a job in a cluster or in a file, as it was written."""
    if is_file(given):
        from finetune_operator.cli.manifest_file import read_job  # noqa: PLC0415  # no cluster, no client

        must_exist(Path(given))
        return dict(read_job(Path(given)).raw["spec"])
    from finetune_operator.cli.jobs import with_jobs  # noqa: PLC0415  # help needs no client

    return dict(with_jobs(options, lambda jobs: jobs.raw(given))["spec"])
