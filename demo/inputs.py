"""The demo's base model and data, made once and kept in the user's cache."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from demo.chitchat import chitchat
from demo.smollm2 import smollm2

ROWS = 600


@dataclass(frozen=True)
class Inputs:
    """Where model and data are."""

    model: Path
    data: Path

    def put_into(self, claim: Path) -> None:
        """Put copies where the job's PersistentVolumeClaim is."""
        models, data = claim / "models", claim / "data"
        models.mkdir(parents=True, exist_ok=True)
        data.mkdir(parents=True, exist_ok=True)
        if not (models / self.model.name).exists():
            shutil.copytree(self.model, models / self.model.name)
        shutil.copyfile(self.data, data / "chitchat.jsonl")


def prepare(say: Callable[[str], None]) -> Inputs:
    """Return model and data; says what is done."""
    cache = cache_folder()
    if not (cache / "smollm2-135m-instruct").exists():
        say("downloading and converting SmolLM2-135M-Instruct (once, about a minute)")
    model = smollm2(cache)
    say(f"base model  SmolLM2-135M-Instruct, {size(model) / 1e6:.0f} MB of safetensors")
    data = chitchat(cache, rows=ROWS)
    say(f"data        {ROWS} conversations of the chitchat dataset")
    return Inputs(model, data)


def cache_folder() -> Path:
    """Return the folder of downloaded and converted inputs."""
    base = os.environ.get("FINETUNE_CACHE") or Path.home() / ".cache" / "finetune-operator"
    return Path(base).absolute() / "inputs"


def size(folder: Path) -> int:
    """Return the bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
