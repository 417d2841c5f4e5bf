"""`finetune merge`: several adapters of one base model as one, on this machine, without a GPU and without the base model."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import typer
from finetune_contract import ENV_ALLOW_FILE, ENV_CLAIMS, ENV_SECRETS, CombineConfig, WeightedAdapter
from finetune_contract.data import Location
from finetune_contract.wire import dumps

from finetune_operator.cli.data import joined
from finetune_operator.cli.trainer_here import check_installed
from finetune_operator.errors import FinetuneError

Method = Literal["average", "linear", "svd", "ties", "dare"]
DENSITY, SEED = 0.5, 42
METHODS = (
    "average: weighted mean; linear: weighted sum; svd: the sum at a lower rank; ties, dare: the largest or random values of each, "
    "then svd."
)


def command(  # noqa: PLR0913  # one parameter per option is how typer works
    adapters: Annotated[
        list[str],
        typer.Argument(metavar="ADAPTER[=WEIGHT]...", help="Adapters: folders or URIs, each with its weight."),
    ],
    *,
    output: Annotated[str, typer.Option("--to", help="Folder or URI for the combined adapter.")],
    method: Annotated[Method, typer.Option(help=METHODS)] = "average",
    rank: Annotated[
        int | None,
        typer.Option(
            min=1, max=1024, help="LoRA rank of the result. Default: exact for average and linear, else the largest."
        ),
    ] = None,
    density: Annotated[
        float | None,
        typer.Option(min=0.01, max=1.0, help=f"ties, dare: share of the values that is kept. Default: {DENSITY}."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help=f"dare: which values are dropped. Default: {SEED}.")] = None,
    claim: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FOLDER", help="Where a PersistentVolumeClaim is mounted on this machine; repeatable."
        ),
    ] = None,
    secret: Annotated[
        str, typer.Option(metavar="NAME=FOLDER", help="Folder with one file per key, for s3:// and hf:// locations.")
    ] = "",
) -> None:
    """Make one adapter of several that belong to one revision of one base model."""
    refuse_idle(method, density=density, seed=seed)
    secrets = joined([secret] if secret else [], "--secret")
    opens = secrets.partition("=")[0]
    config = CombineConfig(
        adapters=tuple(weighted(one, opens) for one in adapters), method=method, rank=rank or 0,
        density=DENSITY if density is None else density, seed=SEED if seed is None else seed, output=place(output, opens),
    )  # fmt: skip
    refuse_weights(config)
    check_installed("merge")
    with TemporaryDirectory() as folder:
        file = Path(folder) / "combine.json"
        file.write_text(dumps(config))
        places = {ENV_ALLOW_FILE: "1", ENV_CLAIMS: joined(claim or [], "--claim"), ENV_SECRETS: secrets}
        words = [sys.executable, "-m", "finetune_trainer", "combine", str(file)]
        done = subprocess.run(words, env=os.environ | places, capture_output=True, text=True, check=False)
    said = (done.stderr if done.returncode else done.stdout).strip().splitlines()
    if done.returncode:
        raise FinetuneError(said[-1] if said else "the adapters cannot be combined")
    print(said[-1])


def weighted(given: str, secret: str) -> WeightedAdapter:
    """Read ADAPTER or ADAPTER=WEIGHT. Raises typer.BadParameter for a weight that is not a number."""
    name, separator, number = given.rpartition("=")
    if not separator:
        return WeightedAdapter(location=place(given, secret), weight=1.0)
    try:
        return WeightedAdapter(location=place(name, secret), weight=float(number))
    except ValueError as error:
        raise typer.BadParameter(f"{given!r}: {number!r} is not a weight, such as 0.5") from error


def place(given: str, secret: str) -> Location:
    """Return a folder of this machine as a location; a URI as it is."""
    if "://" not in given:
        return Location(uri=f"file://{Path(given).absolute()}")
    return Location(uri=given, secret=secret if given.startswith(("s3://", "hf://")) else "")


def refuse_weights(config: CombineConfig) -> None:
    """Raise typer.BadParameter where there is nothing to combine, or nothing to divide by."""
    if len(config.adapters) < 2:
        raise typer.BadParameter("there is only one adapter to combine: name at least two")
    if config.method == "average" and sum(one.weight for one in config.adapters) <= 0:
        raise typer.BadParameter(
            "the weights of an average must add up to more than 0: use --method linear to subtract an adapter"
        )


def refuse_idle(method: Method, *, density: float | None, seed: int | None) -> None:
    """Raise typer.BadParameter for options that the method does not use."""
    if density is not None and method not in ("ties", "dare"):
        raise typer.BadParameter(f"--density is for ties and dare, not for {method}: leave it out")
    if seed is not None and method != "dare":
        raise typer.BadParameter(f"--seed is for dare, not for {method}: leave it out")
