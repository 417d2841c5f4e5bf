"""The Kubernetes objects that serve a result, published beside it as `finetune manifests` prints them. Called by artifacts and export."""

import hashlib
from collections.abc import Iterable

from finetune_contract import Artifact, RunConfig
from finetune_contract.served import CONCURRENCY, LENGTH
from finetune_contract.serving.objects import Result
from finetune_contract.serving.text import files

from finetune_trainer.storage import Store

SERVING_FOLDER = "serving"
"""At the output destination."""


def serving_files(run: RunConfig, artifacts: tuple[Artifact, ...]) -> dict[str, str]:
    """Return the text for each engine that serves the artifacts, by file name; nothing where no nodes were chosen."""
    if run.serving is None:
        return {}
    return files(
        Result(
            namespace=run.namespace,
            name=run.name,
            artifacts=artifacts,
            base=run.model,
            chat=run.chat,
            output=run.output,
        ),
        run.serving,
    )


def publish_serving(texts: dict[str, str], store: Store, before: Iterable[str] = ()) -> dict[str, str]:
    """Write the files, and remove those of `before` that do not serve the result any more. Returns their sha256 by name."""
    for name in sorted(set(before) - set(texts)):
        store.delete(f"{SERVING_FOLDER}/{name}")
    for name, text in texts.items():
        store.write_text(f"{SERVING_FOLDER}/{name}", text)
    return text_digests(texts)


def text_digests(texts: dict[str, str]) -> dict[str, str]:
    """Return the sha256 of each text by its name."""
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}


def serving_section(run: RunConfig, names: Iterable[str]) -> str:
    """Return the section of a model card that says how to serve the result in a cluster."""
    listed = [f"kubectl apply -f {SERVING_FOLDER}/{name}" for name in names]
    if not listed:
        return ""
    return (
        "## Serve in Kubernetes\n\n"
        f"The folder `{SERVING_FOLDER}/` beside this one has manifests for each server that loads the result. They check its digest and\n"
        f"are sized for {CONCURRENCY} requests at a time of at most {LENGTH:,} tokens; `finetune manifests {run.name}` prints others.\n\n"
        "```\n" + "\n".join(listed) + "\n```\n"
    )
