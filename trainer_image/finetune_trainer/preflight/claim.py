"""The claim at the output destination: one run owns it. Written conditionally, so of two jobs only one gets it."""

import json
from dataclasses import dataclass
from typing import Any

from finetune_contract import (
    CLAIM_FILE,
    COMPLETE_MARKER,
    MANIFEST_FILE,
    Artifact,
    EvaluationResult,
    PreflightConfig,
)
from finetune_contract.wire import dumps, from_wire

from finetune_trainer.errors import UserError
from finetune_trainer.storage import Store

PROBE_FILE = ".finetune-probe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who owns an output destination."""

    namespace: str
    name: str
    uid: str
    run_digest: str
    state: str = "claimed"
    """claimed | training | published"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The same run is complete at the destination."""

    artifacts: tuple[Artifact, ...]
    evaluation: EvaluationResult | None


def check_writable(store: Store, uid: str) -> None:
    """Write a small file and remove it. Raises UserError(OutputNotWritable), StorageUnavailable or StorageFull."""
    name = f"{PROBE_FILE}-{uid}"
    store.write_text(name, "written by preflight to check that it can write here; safe to delete\n")
    store.delete(name)


def check_free(output: Store, config: PreflightConfig) -> None:
    """Refuse early, before any data is read, what belongs to somebody else whatever our digest will be."""
    if output.read_text(CLAIM_FILE) is None and output.read_text(MANIFEST_FILE) is None:
        for folder in ("adapter", "model"):
            if output.exists(folder):
                what, away = (
                    ("an artifact", "delete it")
                    if output.uri.startswith("oci://")
                    else (f"a folder {folder}", "move it away")
                )
                raise UserError(
                    "OutputOccupied",
                    f"{output.uri} already has {what} that no run has claimed: choose another output.destination, or {away}",
                )
    if not output.uri.startswith("hf://"):  # each write is a commit there: the claim itself is the proof
        check_writable(output, config.uid)


def claim_output(output: Store, checkpoint: Store | None, config: PreflightConfig, run_digest: str) -> Published | None:
    """Claim the destination for this run, or find the run finished there. Raises UserError(OutputOccupied)."""
    if (manifest := output.read_text(MANIFEST_FILE)) is not None:
        return _published(output.uri, manifest, run_digest)
    ours = Claim(namespace=config.namespace, name=config.name, uid=config.uid, run_digest=run_digest)
    if output.create_text(CLAIM_FILE, dumps(ours)):
        return None
    text = output.read_text(CLAIM_FILE) or ""
    theirs = _parsed(text)
    if theirs == ours or (theirs and (theirs.uid, theirs.run_digest) == (ours.uid, ours.run_digest)):
        return None
    _check_replaceable(output.uri, checkpoint, theirs, ours)
    if not output.replace_text(CLAIM_FILE, text, dumps(ours)):
        raise UserError(
            "OutputOccupied", f"another job has just claimed {output.uri}: choose another output.destination"
        )
    return None


def _check_replaceable(uri: str, checkpoint: Store | None, theirs: Claim | None, ours: Claim) -> None:
    """A claim may change hands only within one job (or its re-creation), and between two runs only before training."""
    if theirs is None:
        raise UserError(
            "OutputOccupied",
            f"{uri} has a {CLAIM_FILE} that is not a claim: choose another output.destination, or remove that file",
        )
    if (theirs.namespace, theirs.name) != (ours.namespace, ours.name):
        raise UserError(
            "OutputOccupied",
            f"{uri} belongs to the job {theirs.namespace}/{theirs.name} (uid {theirs.uid}, {theirs.state}): choose "
            f"another output.destination, or remove {CLAIM_FILE} there if that job is gone",
        )
    if theirs.run_digest != ours.run_digest and checkpoint is not None and _has_checkpoints(checkpoint):
        raise UserError(
            "OutputOccupied",
            f"{uri} holds an unfinished run of this job with other settings or data ({theirs.run_digest[:19]}): choose "
            "another output.destination, or remove the checkpoints of that run",
        )


def _has_checkpoints(checkpoint: Store) -> bool:
    return any(file.path.endswith(f"/{COMPLETE_MARKER}") for file in checkpoint.files())


def _published(uri: str, text: str, run_digest: str) -> Published:
    manifest = json.loads(text)
    found = str(manifest.get("runDigest", ""))
    if found != run_digest:
        owner = f"{manifest.get('namespace', '?')}/{manifest.get('name', '?')}"
        raise UserError(
            "OutputOccupied",
            f"{uri} holds the result of another run (job {owner}, {found[:19]}; this one is {run_digest[:19]}): "
            "choose another output.destination",
        )
    evaluation: dict[str, Any] | None = manifest.get("evaluation")
    return Published(
        artifacts=tuple(from_wire(Artifact, item) for item in manifest.get("artifacts", [])),
        evaluation=None if evaluation is None else from_wire(EvaluationResult, evaluation),
    )


def _parsed(text: str) -> Claim | None:
    try:
        return from_wire(Claim, json.loads(text))
    except (ValueError, AttributeError, TypeError):
        return None
