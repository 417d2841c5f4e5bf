"""`finetune data`: see the rows of a job as the model will, without a cluster. Runs the trainer's own preview."""

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from finetune_contract import ENV_ALLOW_FILE, ENV_CLAIMS, ENV_RUN_CONFIG, ENV_SECRETS, ENV_WORKSPACE
from finetune_contract.wire import dumps

from finetune_operator.api.meta import Metadata
from finetune_operator.api.status import FineTuneJob
from finetune_operator.cli.manifest_file import must_exist, read_job
from finetune_operator.errors import FinetuneError
from finetune_operator.manifests.run_config import preflight_config

NEEDED = ("transformers", "pyarrow", "huggingface_hub", "s3fs")
EXTRA = "finetune-operator[preflight]"

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def frame() -> None:
    """Preview the data of a job."""


@app.command("preview", short_help="Print sample rows as the model will see them, row lengths and duplicates.")
def preview(
    file: Annotated[
        Path,
        typer.Option("-f", "--file", help="YAML file with the FineTuneJob; - for standard input.", callback=must_exist),
    ],
    claim: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="Use a local folder as the PersistentVolumeClaim NAME; repeatable."),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="Use a folder with one file per key as the Secret NAME; repeatable."),
    ] = None,
    colour: Annotated[bool | None, typer.Option(help="Colour the trained tokens. Default: only on a terminal.")] = None,
) -> None:
    """Print sample rows with the trained tokens marked, row lengths, truncation and duplicates.

    This runs the preflight code on this machine. It downloads the tokenizer and the data, but no weights.
    """
    check_installed()
    job = read_job(file)
    metadata = Metadata(name=job.name, namespace=job.namespace, uid="preview", generation=1)
    config = dumps(preflight_config(FineTuneJob(metadata=metadata, spec=job.spec), 1))
    coloured = sys.stdout.isatty() if colour is None else colour
    code = run_preview(config, claims=claim or [], secrets=secret or [], colour=coloured)
    if code:
        typer.echo(
            "If the job uses a PersistentVolumeClaim or a Secret, provide it with --claim NAME=FOLDER or --secret NAME=FOLDER.",
            err=True,
        )
    raise typer.Exit(1 if code else 0)  # the trainer's own codes are for the operator: docs/cli.md


def check_installed() -> None:
    """Raise FinetuneError with the command to type when the trainer's libraries are not there."""
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise FinetuneError(f"data preview needs {', '.join(missing)}, which is not installed: pip install '{EXTRA}'")


def run_preview(config: str, *, claims: list[str], secrets: list[str], colour: bool) -> int:
    """Run the trainer's preview in a process of its own, in a Pod's environment; return its exit code."""
    with tempfile.TemporaryDirectory(prefix="finetune-preview-") as folder:
        run = Path(folder) / "run.json"
        run.write_text(config)
        environment = os.environ | {
            ENV_RUN_CONFIG: str(run),
            ENV_WORKSPACE: folder,
            ENV_ALLOW_FILE: "1",
            ENV_CLAIMS: joined(claims, "--claim"),
            ENV_SECRETS: joined(secrets, "--secret"),
            "FINETUNE_COLOUR": "1" if colour else "0",
        }
        return subprocess.run(
            [sys.executable, "-m", "finetune_trainer.preflight.preview"], env=environment, check=False
        ).returncode


def joined(pairs: list[str], option: str) -> str:
    """Return NAME=FOLDER pairs as the environment holds them. Raises FinetuneError for anything else."""
    for pair in pairs:
        name, _, folder = pair.partition("=")
        if not (name and folder and Path(folder).is_dir()):
            raise FinetuneError(f"{option} {pair!r} is not NAME=FOLDER with an existing folder")
    return ":".join(f"{name}={Path(folder).resolve()}" for name, _, folder in (pair.partition("=") for pair in pairs))
