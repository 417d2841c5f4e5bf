"""`finetune import`: the job of another tool as a FineTuneJob, with comments on what is different."""

from pathlib import Path
from typing import Annotated

import typer

from finetune_operator.cli.options import must_exist
from finetune_operator.errors import FinetuneError

STANDARD_OUTPUT = "-"


def command(  # one parameter per option
    file: Annotated[
        Path,
        typer.Argument(help="File of axolotl, LLaMA-Factory, KAITO, Kubeflow or OpenAI's API; - for standard input."),
    ],
    *,
    name: Annotated[str, typer.Option(help="Name of the job. Default: made from that of the file or object.")] = "",
    model: Annotated[str, typer.Option(help="Base model instead of the one in the file, such as hf://ORG/NAME.")] = "",
    data: Annotated[
        str, typer.Option(help="Place of the data instead of the one in the file, such as s3://BUCKET/KEY.")
    ] = "",
    destination: Annotated[str, typer.Option(help="Where the result goes, such as s3://BUCKET/PREFIX.")] = "",
    to: Annotated[str, typer.Option("--to", help="File to write; - for standard output.")] = "job.yaml",
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a job.yaml for the job of another tool. Its comments list what differs and what has no equivalent."""
    if to != STANDARD_OUTPUT and Path(to).expanduser().exists() and not force:
        raise FinetuneError(f"{to} exists: pass --force to replace it, or --to with another name")
    from finetune_operator.cli.importing.formats import imported  # noqa: PLC0415  # help needs none of this
    from finetune_operator.cli.importing.imported import settled  # noqa: PLC0415
    from finetune_operator.cli.importing.text import job_text, said  # noqa: PLC0415
    from finetune_operator.cli.manifest_file import text_of  # noqa: PLC0415
    from finetune_operator.cli.output import write_file  # noqa: PLC0415

    must_exist(file)
    job = imported(text_of(file), file, name)
    for path, value in (("model.source", model), ("output.destination", destination)):
        job.put(path, value)
        job.fill_in = [each for each in job.fill_in if not (value and each.startswith(f"spec.{path}:"))]
    if data:
        job.spec["datasets"] = [{**job.spec["datasets"][0], "source": data}]
        job.fill_in = [each for each in job.fill_in if not each.startswith("spec.datasets[")]
    settled(job)
    text = job_text(job, str(file), to if to != STANDARD_OUTPUT else "job.yaml")
    if to == STANDARD_OUTPUT:
        print(text, end="")
        return
    write_file(to, text)
    print("\n".join(said(job, str(file), to)))
