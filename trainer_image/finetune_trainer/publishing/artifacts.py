"""What the user takes home: the adapter or model, its card, and the manifest of provenance, written last. Called by train."""

import hashlib
import json
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from finetune_contract import MANIFEST_FILE, Artifact, EvaluationResult, Outcome, RunConfig
from finetune_contract.engines import servable_by, summary
from finetune_contract.wire import from_wire, to_wire

from finetune_trainer.evaluation.record import FOLDER as RECORD_FOLDER
from finetune_trainer.publishing.adapter_facts import AdapterFacts, adapter_facts
from finetune_trainer.publishing.card import Base, model_card
from finetune_trainer.publishing.curves import CURVES_FILE, curves, held_out_points, points
from finetune_trainer.publishing.licence import base_licence
from finetune_trainer.publishing.published import Published
from finetune_trainer.publishing.serving import publish_serving, serving_files, serving_section
from finetune_trainer.publishing.usage import published_at
from finetune_trainer.storage import Store

PACKAGES = (
    "accelerate", "bitsandbytes", "datasets", "deepspeed", "finetune-operator", "numpy", "peft", "safetensors",
    "tokenizers", "torch", "transformers", "trl",
)  # fmt: skip
"""Those whose version can change a result."""


def kind(run: RunConfig) -> str:
    """Return the name of what is published, which is also its folder: adapter or model."""
    return "model" if run.method == "full" else "adapter"


def drop_pickles(folder: Path) -> None:
    """Remove transformers' pickled settings: an artifact holds safetensors and text only."""
    (folder / "training_args.bin").unlink(missing_ok=True)


def describe(folder: Path, run: RunConfig) -> None:
    """Name the base model and its revision in the adapter's own configuration, instead of a folder of this Pod."""
    path = folder / "adapter_config.json"
    if path.is_file():
        described = json.loads(path.read_text())
        described["base_model_name_or_path"] = base_name(run)
        described["revision"] = run.model.revision or None
        path.write_text(json.dumps(described, indent=2, sort_keys=True) + "\n")


def publish(folder: Path, store: Store, run: RunConfig, published: Published) -> Artifact:
    """Upload the folder, then the manifest. Repeating it is harmless. Only rank 0 calls it."""
    digests, adapter = file_digests(folder), adapter_facts(folder, published.base_type)
    store.upload(folder, kind(run))
    artifact = replace(
        described_artifact(run, adapter),
        uri=store.address_of(kind(run)),
        digest=folder_digest(digests),
        size_bytes=folder_bytes(folder),
    )
    record = folder.parent / RECORD_FOLDER
    if record.is_dir():
        store.upload(record, RECORD_FOLDER)
    serving = publish_serving(serving_files(run, (artifact,)), store)
    recorded = {"evaluationFiles": file_digests(record), "servingFiles": serving}
    described = manifest(run, artifact, digests, published) | _serving(adapter) | recorded
    store.write_text(MANIFEST_FILE, json.dumps(described, indent=2) + "\n")
    return artifact


def described_artifact(run: RunConfig, adapter: AdapterFacts | None) -> Artifact:
    """Return what is known of the artifact before its files are complete."""
    return Artifact(
        kind=kind(run),
        uri=published_at(run.output.uri, kind(run)),
        digest="",
        size_bytes=0,
        base_model=base_name(run),
        base_revision=run.model.revision,
        lora_rank=adapter.rank if adapter is not None else 0,
        servable=adapter.servable if adapter is not None else summary(servable_by((), 0)),
    )


def _serving(adapter: AdapterFacts | None) -> dict[str, Any]:
    """Say what each inference server does with an adapter; any of them serves a whole model."""
    return {} if adapter is None else {"servableBy": [to_wire(one) for one in adapter.servable_by]}


def already_published(store: Store, run_digest: str) -> Outcome | None:
    """Return the outcome of an earlier attempt that published this very run and was killed before it could say so."""
    text = store.read_text(MANIFEST_FILE)
    found = json.loads(text) if text is not None else {}
    if found.get("runDigest") != run_digest:
        return None
    evaluation = found.get("evaluation")
    return Outcome(
        outcome="Succeeded",
        reason="AlreadyPublished",
        message=f"an earlier attempt published {store.uri}",
        step=found["steps"],
        final_loss=found["finalLoss"],
        evaluation=from_wire(EvaluationResult, evaluation) if evaluation is not None else None,
        artifacts=tuple(from_wire(Artifact, artifact) for artifact in found["artifacts"]),
    )


def write_card(folder: Path, run: RunConfig, published: Published) -> None:
    """Write README.md, which is the artifact's page on a model hub, and the curves that it shows."""
    picture = curves(points(published.history, "loss"), held_out_points(published))
    if picture:
        (folder / CURVES_FILE).write_text(picture)
    chat, adapter = (folder / "chat_template.jinja").is_file(), adapter_facts(folder, published.base_type)
    base = Base(name=base_name(run), licence=base_licence(run.model), versions=versions())
    card = model_card(run, published, base, adapter, chat=chat, curves=bool(picture))
    served = serving_section(run, serving_files(run, (described_artifact(run, adapter),)))
    card = "\n".join(part for part in (card, served) if part)
    (folder / "README.md").write_text(card)


def file_digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file, by its path in the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in files}


def folder_bytes(folder: Path) -> int:
    """Return how many bytes the files have, those in folders below included."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(digests: dict[str, str]) -> str:
    """Return one digest for all files: that of what `sha256sum` prints for the sorted paths, so that anyone can check it."""
    listed = "".join(f"{digest}  {path}\n" for path, digest in sorted(digests.items()))
    return "sha256:" + hashlib.sha256(listed.encode()).hexdigest()


def manifest(run: RunConfig, artifact: Artifact, digests: dict[str, str], published: Published) -> dict[str, Any]:
    """Return where the artifact comes from: enough to make it again and to tell two apart."""
    return {
        "runDigest": run.run_digest,
        "namespace": run.namespace,
        "name": run.name,
        "uid": run.uid,
        "attempt": run.attempt,
        "artifacts": [to_wire(artifact)],
        "files": digests,
        "baseModel": {"source": run.model.location.uri, "revision": run.model.revision},
        "datasetDigest": run.dataset_digest,
        "run": to_wire(run),
        "computation": published.computation,
        "steps": published.steps,
        "finalLoss": published.final_loss,
        "trainingSeconds": round(published.training_seconds, 1),
        **to_wire(published.speed),
        "spent": to_wire(published.spent) if published.spent is not None else None,
        "evaluation": to_wire(published.evaluation) if published.evaluation is not None else None,
        "versions": versions(),
        "provenance": run.provenance,
    }


def versions() -> dict[str, str]:
    """Return the installed versions of the packages that can change a result."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def base_name(run: RunConfig) -> str:
    """Return how others name the base model: its hub id, or the location it was read from."""
    return run.model.location.uri.removeprefix("hf://")
