"""Which files of a model or adapter may be touched: safetensors, JSON and tokenizer files."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from finetune_contract import Location, Model

from finetune_trainer.errors import UserError
from finetune_trainer.storage.opening import open_location
from finetune_trainer.storage.store import Role, Store, StoredFile, not_found

COMMIT = re.compile(r"[0-9a-f]{40}")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
WEIGHTS = ".safetensors"
DESCRIPTIONS = (".json", ".jinja", ".txt", ".model", ".tiktoken")
INDEX = "model.safetensors.index.json"
LARGEST_DESCRIPTION_BYTES = 256 << 20
"""A tokenizer.json of 256 thousand tokens has about 30 MB; anything near this is not a tokenizer."""


def fetch_model(model: Model, into: Path) -> Path:
    """Return a local folder with the base model's weights, configuration and tokenizer (file, pvc: in place).

    Raises UserError (ModelNotFound, ModelUnauthorized, ModelUnsupported, InvalidSpec) or StorageUnavailable.
    """
    refuse_unpinned_code(model)
    store = open_location(model.location, Role.MODEL, revision=model.revision)
    files = model_files(store, code=model.trust_remote_code)
    return store.fetch(into, [file.path for file in files])


def refuse_unpinned_code(model: Model) -> None:
    """Raise UserError where code of the repository may run that nobody can have reviewed: a branch can change."""
    if model.trust_remote_code and not COMMIT.fullmatch(model.revision):
        raise UserError(
            "InvalidSpec",
            "model.trustRemoteCode runs code of the repository, so model.revision must be a commit id of 40 digits",
        )


def fetch_adapter(location: Location, into: Path) -> Path:
    """Return a local folder with an adapter. Raises as fetch_model does."""
    store = open_location(location, Role.ADAPTER)
    return store.fetch(into, [file.path for file in adapter_files(store)])


def model_files(store: Store, *, code: bool) -> tuple[StoredFile, ...]:
    """List the files of a model that are used; `code` adds its Python files. Refuses pickles and missing weights."""
    files = _listed(store)
    if not any(file.path == "config.json" for file in files):
        raise UserError(
            "ModelNotFound", f"{store.uri} has no config.json: it is not a model in the transformers format"
        )
    _refuse_pickles(store, files)
    used = _used(files, (*DESCRIPTIONS, WEIGHTS, ".py") if code else (*DESCRIPTIONS, WEIGHTS))
    _refuse_missing_shards(store, {file.path for file in used})
    return used


def adapter_files(store: Store) -> tuple[StoredFile, ...]:
    """List the files of an adapter that are used. Refuses pickles and folders that hold no adapter."""
    files = _listed(store)
    names = {file.path for file in files}
    if "adapter_config.json" not in names:
        raise UserError(
            "ModelNotFound", f"{store.uri} has no adapter_config.json: spec.lora.initialAdapter takes a PEFT adapter"
        )
    _refuse_pickles(store, files)
    return _used(files, (*DESCRIPTIONS, WEIGHTS))


def descriptions(files: Iterable[StoredFile]) -> list[str]:
    """Return the paths of all but the weights: what preflight reads."""
    return [file.path for file in files if not file.path.endswith(WEIGHTS)]


def weight_bytes(files: Iterable[StoredFile]) -> int:
    """Return the size of the weight files."""
    return sum(file.size_bytes for file in files if file.path.endswith(WEIGHTS))


def _listed(store: Store) -> tuple[StoredFile, ...]:
    files = store.files()
    if not files:
        raise not_found(store.role, f"the {store.role} {store.uri}")
    return files


def _used(files: Iterable[StoredFile], suffixes: tuple[str, ...]) -> tuple[StoredFile, ...]:
    used = tuple(file for file in files if "/" not in file.path and file.path.endswith(suffixes))
    for file in used:
        if file.size_bytes > LARGEST_DESCRIPTION_BYTES and not file.path.endswith(WEIGHTS):
            mib = file.size_bytes >> 20
            raise UserError(
                "ModelUnsupported", f"{file.path} has {mib} MiB: no configuration or tokenizer is that large"
            )
    return used


def _refuse_pickles(store: Store, files: tuple[StoredFile, ...]) -> None:
    """Weights must be safetensors.

    Older hub repositories carry pickles beside the safetensors; those are never downloaded, so they are left alone.
    In a folder or bucket of the user's own they are refused: a later reader may be less careful.
    """
    pickles = [file.path for file in files if file.path.lower().endswith(PICKLES)]
    has_weights = any(file.path.endswith(WEIGHTS) for file in files)
    if pickles and not (has_weights and store.uri.startswith("hf://")):
        names = ", ".join(pickles[:3]) + (" ..." if len(pickles) > 3 else "")
        raise UserError(
            "ModelUnsupported",
            f"{store.uri} holds pickle files ({names}), which run code when loaded: only safetensors are read; "
            "save the weights with safe_serialization and remove these files",
        )
    if not has_weights:
        raise UserError("ModelUnsupported", f"{store.uri} has no .safetensors files: save the weights as safetensors")


def _refuse_missing_shards(store: Store, names: set[str]) -> None:
    if INDEX not in names:
        return
    shards = set(json.loads(store.read_text(INDEX) or "{}").get("weight_map", {}).values())
    if missing := sorted(shards - names):
        raise UserError(
            "ModelNotFound", f"{store.uri} lacks {len(missing)} of {len(shards)} weight files, such as {missing[0]}"
        )
