"""Options that several commands share. Light: a help text loads no client and no models."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from finetune_operator.cli.complete import contexts, job_names, namespaces
from finetune_operator.errors import FinetuneError

STANDARD_INPUT = Path("-")

Name = Annotated[str, typer.Argument(help="Name of the FineTuneJob.", autocompletion=job_names)]
Namespace = Annotated[
    str,
    typer.Option("--namespace", "-n", help="Namespace. Default: the one in the kubeconfig.", autocompletion=namespaces),
]
Kubeconfig = Annotated[
    str, typer.Option(help="Kubeconfig file. Default: $KUBECONFIG, ~/.kube/config, or the local cluster.")
]
Context = Annotated[
    str, typer.Option(help="Context in the kubeconfig. Default: the current one.", autocompletion=contexts)
]

Group = Literal["namespace", "user", "pool", "model"]
By = Annotated[Group, typer.Option(help="What to add up by: namespace, user, pool or model.")]

Claims = Annotated[
    list[str] | None,
    typer.Option(
        "--claim", metavar="NAME=FOLDER", help="Where a PersistentVolumeClaim is mounted on this machine; repeatable."
    ),
]


def must_exist(given: Path | list[Path] | None) -> Path | list[Path] | None:
    """Return the file, or files, of an option. Raises typer.BadParameter for one that is not there; pipes are files.

    A shell leaves the ~ of `--file=~/job.yaml` as it is.
    """
    paths = [path.expanduser() for path in (given if isinstance(given, list) else [given] if given else ())]
    for path in paths:
        if path != STANDARD_INPUT and (path.is_dir() or not path.exists()):
            raise typer.BadParameter(f"{path} is not a file")
    return paths if isinstance(given, list) else paths[0] if paths else None


def joined(pairs: list[str], option: str) -> str:
    """Return NAME=FOLDER pairs as the environment holds them. Raises FinetuneError for anything else."""
    for pair in pairs:
        name, _, folder = pair.partition("=")
        if not (name and folder and Path(folder).expanduser().is_dir()):
            raise FinetuneError(f"{option} {pair!r} is not NAME=FOLDER with an existing folder")
    return ":".join(
        f"{name}={Path(folder).expanduser().resolve()}" for name, _, folder in (pair.partition("=") for pair in pairs)
    )
