"""A published result asked line by line on this machine, by the trainer's own code. Called by chat."""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from finetune_contract import ChatConfig
from finetune_contract.wire import dumps

from finetune_operator.cli.published import cache, here, published_as
from finetune_operator.errors import FinetuneError
from finetune_operator.manifests.run_config import model


def chat(name: str, options: tuple[str, str, str], claims: str, *, compare: bool, max_tokens: int) -> int:
    """Ask until the lines end; return the exit code. Raises FinetuneError where there is nothing to ask."""
    with here(name, options, claims, "chat") as found, TemporaryDirectory() as folder:
        job = found.job
        artifact = published_as(job, "adapter", "merged", "model")
        if artifact is None or (compare and artifact.kind != "adapter"):
            raise FinetuneError(
                f"{name} has published a whole model and no adapter: chat without --compare, and ask the base by itself"
            )
        base = model(job.spec.model)
        revision = artifact.base_revision if base.location.uri.startswith("hf://") else ""
        place = cache() / "bases" / base.location.uri.rpartition("/")[2]
        config = ChatConfig(
            model=type(base)(location=base.location, revision=revision, trust_remote_code=base.trust_remote_code),
            folder=str(found.brought(artifact)), kind=artifact.kind, cache=str(place), compare=compare, max_new_tokens=max_tokens,
        )  # fmt: skip
        file = Path(folder) / "chat.json"
        file.write_text(dumps(config))
        done = subprocess.run(
            [sys.executable, "-m", "finetune_trainer", "chat", str(file)], env=found.environment, check=False
        )
    return 1 if done.returncode else 0
