"""`finetune chat`: ask a published result in the terminal, beside its base model with --compare. Runs on this machine's CPU."""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from finetune_contract import ChatConfig
from finetune_contract.wire import dumps

from finetune_operator.cli.data import joined
from finetune_operator.cli.options import Context, Kubeconfig, Name, Namespace
from finetune_operator.cli.published import cache, here, published_as
from finetune_operator.errors import FinetuneError
from finetune_operator.manifests.run_config import model


def command(  # one parameter per option is how typer works
    name: Name,
    *,
    compare: Annotated[bool, typer.Option("--compare", help="Let the base model answer each line too.")] = False,
    max_tokens: Annotated[int, typer.Option(min=1, max=4096, help="Maximum tokens of an answer.")] = 256,
    claim: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FOLDER", help="Where a PersistentVolumeClaim is mounted on this machine; repeatable."
        ),
    ] = None,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Ask a job's result line by line. Lines come from the terminal or from standard input."""
    claims = joined(claim or [], "--claim")
    with here(name, (kubeconfig, context, namespace), claims, "chat") as found, TemporaryDirectory() as folder:
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
    raise typer.Exit(1 if done.returncode else 0)
