"""Adapters combined by the trainer's own code, on this machine. Called by merge."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import typer
from finetune_contract import ENV_ALLOW_FILE, ENV_CLAIMS, ENV_SECRETS, CombineConfig, WeightedAdapter
from finetune_contract.data import Location
from finetune_contract.wire import dumps

from finetune_operator.api.rules import needs_secret
from finetune_operator.cli.trainer_here import check_installed
from finetune_operator.errors import FinetuneError


def merge(config: CombineConfig, claims: str, secrets: str) -> str:
    """Combine adapters; return what the trainer says of the result. Raises FinetuneError with its refusal."""
    check_installed("merge")
    with TemporaryDirectory() as folder:
        file = Path(folder) / "combine.json"
        file.write_text(dumps(config))
        places = {ENV_ALLOW_FILE: "1", ENV_CLAIMS: claims, ENV_SECRETS: secrets}
        words = [sys.executable, "-m", "finetune_trainer", "combine", str(file)]
        done = subprocess.run(words, env=os.environ | places, capture_output=True, text=True, check=False)
    said = (done.stderr if done.returncode else done.stdout).strip().splitlines()
    if done.returncode:
        raise FinetuneError(said[-1] if said else "the adapters cannot be combined")
    return said[-1]


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
    return Location(uri=given, secret=secret if needs_secret(given) else "")


def refuse_weights(config: CombineConfig) -> None:
    """Raise typer.BadParameter where there is nothing to combine, or nothing to divide by."""
    if len(config.adapters) < 2:
        raise typer.BadParameter("there is only one adapter to combine: name at least two")
    if config.method == "average" and sum(one.weight for one in config.adapters) <= 0:
        raise typer.BadParameter(
            "the weights of an average must add up to more than 0: use --method linear to subtract an adapter"
        )
