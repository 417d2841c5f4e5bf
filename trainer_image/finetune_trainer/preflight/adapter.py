"""Examine the adapter to continue from: an adapter fits the revision it was trained on and no other."""

import json
from pathlib import Path
from typing import Any

from finetune_contract import MANIFEST_FILE, Location, Model

from finetune_trainer.errors import ReportedError, UserError
from finetune_trainer.preflight.adapter_weights import check_adapter
from finetune_trainer.preflight.family import object_of
from finetune_trainer.preflight.model import ExaminedModel, refuse_pointers
from finetune_trainer.storage import Role, open_location
from finetune_trainer.storage.formats import WEIGHTS
from finetune_trainer.storage.headers import read_headers
from finetune_trainer.storage.weights import COMMIT, adapter_files, descriptions

PLANNED_RANK = 16
"""The planner does not know the adapter's shape, and counts with the default."""


def examine_adapter(location: Location, model: Model, base: ExaminedModel, into: Path) -> tuple[str, ...]:
    """Check that an adapter belongs to the base model; return warnings. Raises UserError or StorageUnavailable."""
    store = open_location(location, Role.ADAPTER)
    files, revision = adapter_files(store), base.revision
    folder = store.fetch(into, descriptions(files))
    refuse_pointers(folder, descriptions(files), store.uri)
    config = object_of(folder / "adapter_config.json", store.uri)
    if config.get("peft_type") not in ("LORA", "ADALORA"):
        raise UserError(
            "ModelUnsupported",
            f"{store.uri} is a {config.get('peft_type')} adapter: only LoRA adapters can be trained further",
        )
    trained_on = config.get("revision") or _published_revision(location)
    if trained_on and trained_on != revision:
        remedy = (
            f"set model.revision to {trained_on}" if COMMIT.fullmatch(trained_on) else "use the files of that revision"
        )
        raise UserError(
            "ModelUnsupported",
            f"the adapter {store.uri} was trained on revision {trained_on} of its base model, but this job uses "
            f"{revision}: {remedy}, or train a new adapter",
        )
    check_adapter(read_headers(store, [file for file in files if file.path.endswith(WEIGHTS)]), config, base, store.uri)
    return _doubts(config, model, store.uri, known=bool(trained_on)) + _larger_than_planned(config, store.uri)


def _larger_than_planned(config: dict[str, Any], uri: str) -> tuple[str, ...]:
    """Warn of a shape that needs more memory than the plan counts."""
    rank = max((config.get("r") or 0, *(config.get("rank_pattern") or {}).values()))
    parts = [f"rank {rank}"] if rank > PLANNED_RANK else []
    parts += ["DoRA's magnitudes"] if config.get("use_dora") else []
    parts += [f"fully trained {', '.join(saved)}"] if (saved := config.get("modules_to_save")) else []
    if not parts:
        return ()
    return (
        f"the adapter {uri} has {' and '.join(parts)}, but memory is planned for plain LoRA of rank {PLANNED_RANK}: "
        "choose a pool whose GPUs have memory to spare (resources.pools)",
    )


def _published_revision(location: Location) -> str:
    """Look for the manifest of the run that made the adapter: it lies beside the adapter's folder."""
    parent, _, name = location.uri.rpartition("/")
    if location.uri.startswith("hf://") or name != "adapter" or parent.count("/") < 3:
        return ""
    try:
        text = open_location(Location(uri=parent, secret=location.secret), Role.ADAPTER).read_text(MANIFEST_FILE)
        artifacts = json.loads(text or "{}").get("artifacts", [])
    except (ReportedError, ValueError):
        return ""  # an adapter from elsewhere has no manifest that we may read
    return next((str(item.get("baseRevision", "")) for item in artifacts if item.get("kind") == "adapter"), "")


def _doubts(config: dict[str, Any], model: Model, uri: str, *, known: bool) -> tuple[str, ...]:
    base = str(config.get("base_model_name_or_path") or "")
    named = model.location.uri.removeprefix("hf://")
    if known or base in (named, model.location.uri):
        return ()
    return (
        f"the adapter {uri} does not record the revision it was trained on (base model: {base or 'not named'}): check that it "
        "belongs to this model",
    )
