"""`finetune data`: see the rows of a job, or of a file, as the model will, without a cluster. Runs the trainer's own preview."""

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from finetune_operator.api.group import API_VERSION, JOB_KIND
from finetune_operator.cli.options import joined, must_exist
from finetune_operator.cli.tables import coloured
from finetune_operator.errors import FinetuneError

MOUNTED = re.compile(r'"pvc://|\w*secret\w*"|configmap\w*"', re.IGNORECASE)
"""What in a job needs a mount: a claim in an address, the name of a field that refers to a Secret or a ConfigMap."""

DOCUMENTS = (".txt", ".md", ".txt.gz", ".md.gz")
"""Plain text is learned by objective cpt."""

PLAIN_PATH = re.compile(r"[A-Za-z0-9._=+,~/*-]+")
"""A path that can stand in a URI of the API."""

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def frame() -> None:
    """Preview the data of a job."""


@app.command("preview", short_help="Print sample rows as the model will see them, row lengths and duplicates.")
def preview(
    data: Annotated[
        str | None, typer.Argument(help="A file, folder or glob on this machine, or hf://ORG/NAME, instead of a job.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("-f", "--file", help="YAML file with the FineTuneJob; - for standard input.", callback=must_exist),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="With DATA: the base model, a folder on this machine or hf://ORG/NAME.")
    ] = None,
    claim: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="Use a local folder as the PersistentVolumeClaim NAME; repeatable."),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="Use a folder with one file per key as the Secret NAME; repeatable."),
    ] = None,
    config_map: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FOLDER", help="Use a folder with one file per key as the ConfigMap NAME; repeatable."
        ),
    ] = None,
    colour: Annotated[bool | None, typer.Option(help="Colour the trained tokens. Default: only on a terminal.")] = None,
) -> None:
    """Print sample rows with the trained tokens marked, row lengths, truncation and duplicates.

    This runs the preflight code on this machine. It downloads the tokenizer and the data, but no weights.
    """
    from finetune_contract import ENV_CLAIMS, ENV_CONFIG_MAPS, ENV_SECRETS  # noqa: PLC0415  # help needs none of this

    from finetune_operator.cli.manifest_file import parse_job, read_job  # noqa: PLC0415
    from finetune_operator.cli.trainer_here import check_installed, run_trainer  # noqa: PLC0415

    check_installed("data preview")
    if (data is None) == (file is None):
        raise FinetuneError("name the data and its model (finetune data preview qa.csv --model FOLDER), or a job by -f")
    if data and data.endswith((".yaml", ".yml")):
        raise FinetuneError(f"{data} is not data: a job is named with -f: `finetune data preview -f {data}`")
    colours = coloured() if colour is None else colour
    with tempfile.TemporaryDirectory(prefix="finetune-data-") as links:
        job = read_job(file) if file else parse_job(job_of(data or "", model, Path(links)))
        mounted = {
            "FINETUNE_COLOUR": "1" if colours else "0",
            ENV_CLAIMS: joined(claim or [], "--claim"),
            ENV_SECRETS: joined(secret or [], "--secret"),
            ENV_CONFIG_MAPS: joined(config_map or [], "--config-map"),
        }
        code = run_trainer(["preview"], job, environment=mounted).returncode
    if code and file and MOUNTED.search(json.dumps(job.raw["spec"])):
        typer.echo(
            "The job uses a PersistentVolumeClaim, a Secret or a ConfigMap: here each is a folder, named by --claim NAME=FOLDER, "
            "--secret NAME=FOLDER or --config-map NAME=FOLDER.",
            err=True,
        )
    raise typer.Exit(1 if code else 0)  # the trainer's own codes are for the operator: docs/cli.md


def job_of(data: str, model: str | None, links: Path) -> str:
    """Return the job that a preview of data on this machine is of. Raises FinetuneError where the model is not named."""
    if not model:
        raise FinetuneError(
            "--model is missing: rows are shown as its tokenizer writes them; a folder or hf://ORG/NAME"
        )
    objective = "cpt" if data.lower().endswith(DOCUMENTS) else "sft"
    return json.dumps(
        {
            "apiVersion": API_VERSION,
            "kind": JOB_KIND,
            "metadata": {"name": "preview"},
            "spec": {
                "model": {"source": location(model, links)},
                "datasets": [{"source": location(data, links)}],
                "objective": objective,
                "output": {"destination": "file:///tmp/preview"},
            },
        }
    )


def location(given: str, links: Path) -> str:
    """Return the URI of a path on this machine, through a link where its name does not fit into one; a URI as it is.

    Raises FinetuneError for a path that does not exist.
    """
    if "://" in given:
        return given
    path = Path(os.path.normpath(Path(given).absolute()))
    if "*" not in given and not path.exists():
        raise FinetuneError(f"{given} does not exist")
    if not PLAIN_PATH.fullmatch(str(path)):
        link = links / re.sub(r"[^A-Za-z0-9._-]", "_", path.name)
        link.symlink_to(path)
        path = link
    return f"file://{path}"
