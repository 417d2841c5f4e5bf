"""Examine the adapter to continue from: an adapter fits the revision it was trained on and no other."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_contract import MANIFEST_FILE, Location, Model
from finetune_contract.engines import Trait, traits_of

from finetune_trainer.combining.combinable import (
    base_of,
    layer_shapes,
    layers_of,
    refuse_other_layers,
    refuse_strangers,
)
from finetune_trainer.errors import ReportedError, UserError
from finetune_trainer.preflight.adapter_weights import check_adapter
from finetune_trainer.preflight.family import object_of
from finetune_trainer.preflight.model import ExaminedModel, refuse_pointers
from finetune_trainer.storage import Role, open_location
from finetune_trainer.storage.formats import WEIGHTS
from finetune_trainer.storage.headers import Tensor, read_headers
from finetune_trainer.storage.weights import COMMIT, adapter_files, descriptions

UNTRAINABLE = frozenset({Trait.CHANGED_BASE, Trait.ACTIVATED, Trait.REPLICATED, Trait.VARIANT})
"""With the first, PEFT changes the base weights: what is measured without the adapter is not the base model. The others change more than
the matrices that the trainer knows."""

PLANNED_RANK = 16
"""The planner does not know the adapter's shape, and counts with the default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """What is known of the adapters that a job begins with."""

    doubts: tuple[str, ...] = ()
    size_bytes: int = 0
    """Of the weights of those that are merged."""
    folders: tuple[tuple[str, Path], ...] = ()
    """URI of each, and where its configuration and its tokenizer are."""


def examine_adapter(location: Location, model: Model, base: ExaminedModel, into: Path) -> Adapters:
    """Check that an adapter belongs to the base model. Raises UserError or StorageUnavailable."""
    found = _examined(location, base, into)
    _refuse_untrainable(found.config, found.uri)
    doubts = _doubts(found.config, model, found.uri, known=found.known)
    return Adapters(
        doubts=(*doubts, *_larger_than_planned(found.config, found.uri)), folders=((found.uri, found.folder),)
    )


def examine_merged(locations: Sequence[Location], model: Model, base: ExaminedModel, into: Path) -> Adapters:
    """Check that adapters belong to the base model and can become one. Raises as above."""
    found = [_examined(location, base, into / str(number)) for number, location in enumerate(locations)]
    for one in found:
        layers_of(one.config, one.tensors, one.uri)
    if found:
        refuse_strangers([(one.uri, base_of(one.config)) for one in found])
        refuse_other_layers([(one.uri, layer_shapes(one.tensors)) for one in found])
    return Adapters(
        doubts=tuple(doubt for one in found for doubt in _doubts(one.config, model, one.uri, known=one.known)),
        size_bytes=sum(one.size_bytes for one in found),
        folders=tuple((one.uri, one.folder) for one in found),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """An adapter that belongs to the base model."""

    uri: str
    folder: Path
    config: dict[str, Any]
    tensors: Mapping[str, Tensor]
    known: bool
    """It says which revision it was trained on."""
    size_bytes: int


def _examined(location: Location, base: ExaminedModel, into: Path) -> Examined:
    store = open_location(location, Role.ADAPTER)
    files, revision = adapter_files(store), base.revision
    folder = store.fetch(into, descriptions(files))
    refuse_pointers(folder, descriptions(files), store.uri)
    config = object_of(folder / "adapter_config.json", store.uri)
    if config.get("peft_type") not in ("LORA", "ADALORA"):
        raise UserError(
            "ModelUnsupported",
            f"{store.uri} is a {config.get('peft_type')} adapter: only LoRA adapters can be trained further or merged",
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
    weights = [file for file in files if file.path.endswith(WEIGHTS)]
    tensors = read_headers(store, weights)
    check_adapter(tensors, config, base, store.uri)
    return Examined(
        uri=store.uri, folder=folder, config=config, tensors=tensors, known=bool(trained_on),
        size_bytes=sum(file.size_bytes for file in weights),
    )  # fmt: skip


def _refuse_untrainable(config: dict[str, Any], uri: str) -> None:
    """Refuse adapters that would be trained, or compared with their base, as something else than they are."""
    what = sorted(map(str, traits_of(config) & UNTRAINABLE))
    if not what:
        return
    remedy = (
        "save it as plain LoRA first (save_pretrained of PEFT with path_initial_model_for_weight_conversion)"
        if Trait.CHANGED_BASE in traits_of(config)
        else "merge it into its base model and tune the result"
    )
    raise UserError(
        "ModelUnsupported",
        f"the adapter {uri} has {', '.join(what)}, and cannot be trained further: {remedy}, or train a new adapter",
    )


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
