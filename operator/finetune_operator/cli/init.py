"""`finetune init`: a job.yaml for somebody's data. What the data is, the trainer's own code says."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from finetune_operator.errors import FinetuneError

DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
SMALL = "small enough for a laptop's CPU; `finetune models` lists larger ones"
STANDARD_OUTPUT = "-"


def command(  # one parameter per option
    data: Annotated[
        str,
        typer.Argument(
            help="Training data: a file or folder on this machine, hf://ORG/NAME, s3://, pvc:// or https://."
        ),
    ] = "",
    *,
    model: Annotated[
        str, typer.Option(help=f"Base model: a name on the hub, or a folder on this machine. Default: {DEFAULT_MODEL}.")
    ] = "",
    name: Annotated[str, typer.Option(help="Name of the job. Default: made from the name of the data.")] = "",
    to: Annotated[str, typer.Option("--to", help="File to write; - for standard output.")] = "job.yaml",
    output: Annotated[
        str, typer.Option("--destination", help="Where the result goes. Default: a folder beside the data.")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a job.yaml for your data: finds its format and columns, and says what to type next."""
    if to != STANDARD_OUTPUT and Path(to).expanduser().exists() and not force:
        raise FinetuneError(f"{to} exists: pass --force to replace it, or --to with another name")
    if not data:
        data, model = asked(model)
    from finetune_operator.cli.init_draft import drafted, planned  # noqa: PLC0415  # help needs none of this
    from finetune_operator.cli.init_text import job_text, said  # noqa: PLC0415
    from finetune_operator.cli.manifest_file import parse_job  # noqa: PLC0415
    from finetune_operator.cli.output import write_file  # noqa: PLC0415

    file, note = to if to != STANDARD_OUTPUT else "job.yaml", "" if model else SMALL
    draft = drafted(data, model or DEFAULT_MODEL, note, name=name, output=output, file=file)
    text = job_text(draft)
    plan = planned(parse_job(text), draft.dataset.found)
    if to == STANDARD_OUTPUT:
        print(text, end="")
        return
    write_file(to, text)
    print("\n".join(said(draft, plan)))


def asked(model: str) -> tuple[str, str]:
    """Ask for the data and the model on a terminal. Raises FinetuneError where nobody can answer."""
    if not sys.stdin.isatty():
        raise FinetuneError("name the data: finetune init qa.csv")
    data: str = typer.prompt("Training data (a file, a folder, or hf://ORG/NAME)")
    return data.strip(), model or str(
        typer.prompt("Base model (a name on the hub, or a folder)", default=DEFAULT_MODEL)
    )
