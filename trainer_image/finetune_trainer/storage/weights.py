"""Which files of a model or adapter may be touched: safetensors, JSON and tokenizer files."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_contract import Location, Model

from finetune_trainer.errors import UserError
from finetune_trainer.storage.formats import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    INDEX,
    PICKLES,
    SINGLE,
    WEIGHTS,
    is_weight,
    refuse_other_formats,
    unnamed_weights,
    without_weights,
)
from finetune_trainer.storage.naming import some
from finetune_trainer.storage.opening import open_location
from finetune_trainer.storage.store import NOT_FOUND, Role, Store, StoredFile, not_found

COMMIT = re.compile(r"[0-9a-f]{40}")
CHECKPOINT = re.compile(r"(^|/)checkpoint-\d+/")
DESCRIPTIONS = (".json", ".jinja", ".txt", ".model", ".tiktoken")
PART = re.compile(r"-(\d+)-of-(\d+)\.safetensors$")
LARGEST_DESCRIPTION_BYTES = 256 << 20
"""A tokenizer.json of 256 thousand tokens has about 30 MB; anything near this is not a tokenizer."""


OVERFLOWED = "a merge or a conversion to float16 overflowed: make the model again in bfloat16"
"""Why weights are infinite or not numbers, and what helps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """The files of a model that are used, and what is said of others."""

    files: tuple[StoredFile, ...]
    warnings: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    """Those of the warnings that are about weight files."""


def fetch_model(model: Model, into: Path) -> Path:
    """Return a local folder with the base model's weights, configuration and tokenizer (file, pvc: in place).

    Raises UserError (ModelNotFound, ModelUnauthorized, ModelUnsupported, ModelInvalid, InvalidSpec) or StorageUnavailable.
    """
    refuse_unpinned_code(model)
    store = open_location(model.location, Role.MODEL, revision=model.revision)
    chosen = model_files(store, code=model.trust_remote_code)
    return store.fetch(into, [file.path for file in chosen.files])


def refuse_unpinned_code(model: Model) -> None:
    """Raise UserError where code of the repository may run that nobody can have reviewed: a branch can change."""
    if model.trust_remote_code and not COMMIT.fullmatch(model.revision):
        raise UserError(
            "InvalidSpec",
            "model.trustRemoteCode runs code of the repository, so the model must be on the hub (hf://), with a commit id of 40 "
            "hexadecimal digits as model.revision",
        )


def fetch_adapter(location: Location, into: Path) -> Path:
    """Return a local folder with an adapter. Raises as fetch_model does."""
    store = open_location(location, Role.ADAPTER)
    return store.fetch(into, [file.path for file in adapter_files(store)])


def model_files(store: Store, *, code: bool) -> ModelFiles:
    """List the files of a model that are used; `code` adds its Python files. Refuses folders without readable weights."""
    files = _listed(store)
    names = {file.path for file in files}
    refuse_other_formats(store, names)
    pickled = _pickles(store, files)
    weights = _weights(store, names)
    suffixes = (*DESCRIPTIONS, ".py") if code else DESCRIPTIONS
    used = tuple(file for file in _used(store, files, (*suffixes, WEIGHTS)) if _is_read(file.path, weights))
    unread = sorted(name for name in names if is_weight(name) and name not in weights)
    also = f"{store.uri} also holds {some(unread)}: the weights are read from {some(weights)} only"
    set_aside = (also,) if unread else ()
    return ModelFiles(files=used, warnings=(*pickled, *set_aside), unread=set_aside)


def adapter_files(store: Store) -> tuple[StoredFile, ...]:
    """List the files of an adapter that are used. Refuses folders that hold no adapter, or one in pickles only."""
    files = _listed(store)
    names = {file.path for file in files}
    if ADAPTER_CONFIG not in names:
        raise UserError(
            "ModelNotFound", f"{store.uri} has no adapter_config.json: spec.lora.initialAdapter takes a PEFT adapter"
        )
    _pickles(store, files)
    if ADAPTER_WEIGHTS not in names:
        raise UserError("ModelInvalid", _without_adapter_weights(store))
    return tuple(
        file for file in _used(store, files, (*DESCRIPTIONS, WEIGHTS)) if _is_read(file.path, (ADAPTER_WEIGHTS,))
    )


def is_of_the_result(path: str) -> bool:
    """Tell whether a file beside an adapter belongs to it: trainers leave their checkpoints there, many times its size."""
    return not CHECKPOINT.search(path) and not path.endswith(PICKLES)


def weight_files(folder: Path) -> list[Path]:
    """Return the files of a local folder that its model's weights are read from."""
    single, index = folder / SINGLE, folder / INDEX
    if single.is_file() or not index.is_file():
        return [single]
    return [folder / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]


def descriptions(files: Iterable[StoredFile]) -> list[str]:
    """Return the paths of all but the weights: what preflight reads."""
    return [file.path for file in files if not file.path.endswith(WEIGHTS)]


def weight_bytes(files: Iterable[StoredFile]) -> int:
    """Return the size of the weight files."""
    return sum(file.size_bytes for file in files if file.path.endswith(WEIGHTS))


def _listed(store: Store) -> tuple[StoredFile, ...]:
    files = store.files()
    folder = store.local_folder()
    if not files and folder and folder.is_dir():
        raise UserError(
            NOT_FOUND[store.role][0],
            f"{store.uri} is an empty folder: copy the files of the {store.role} there, or correct its source",
        )
    if not files:
        raise not_found(store.role, f"the {store.role} {store.uri}")
    return files


def _used(store: Store, files: Iterable[StoredFile], suffixes: tuple[str, ...]) -> tuple[StoredFile, ...]:
    used = tuple(file for file in files if "/" not in file.path and file.path.endswith(suffixes))
    for file in used:
        if file.size_bytes > LARGEST_DESCRIPTION_BYTES and not file.path.endswith(WEIGHTS):
            mib = file.size_bytes >> 20
            raise UserError(
                "ModelUnsupported",
                f"{file.path} of {store.uri} is {mib} MiB, too large for a configuration or tokenizer file: remove it",
            )
    return used


def _without_adapter_weights(store: Store) -> str:
    return f"{store.uri} has no {ADAPTER_WEIGHTS}: copy the adapter's weights next to adapter_config.json"


def _is_read(path: str, weights: Iterable[str]) -> bool:
    return not path.endswith(WEIGHTS) or path in weights


def _pickles(store: Store, files: tuple[StoredFile, ...]) -> tuple[str, ...]:
    """Say that pickles are not read, which run code when loaded; refuse a folder whose weights are pickles only.

    Most older hub repositories carry pickles beside the safetensors, which is not worth a word.
    """
    pickles = [file.path for file in files if file.path.lower().endswith(PICKLES)]
    has_weights = any(is_weight(file.path) for file in files)
    if has_weights and pickles and not store.uri.startswith("hf://"):
        return (f"{store.uri} holds pickle files ({some(pickles)}), which can run code when loaded and are not read",)
    if has_weights:
        return ()
    if store.role is Role.ADAPTER and not pickles:
        raise UserError("ModelInvalid", _without_adapter_weights(store))
    raise without_weights(store, (file.path for file in files))


def _weights(store: Store, names: set[str]) -> tuple[str, ...]:
    """Return the files that transformers reads the weights from: model.safetensors, else those of the index."""
    shards = _shards(store, names)
    if missing := sorted(set(shards) - names):
        unnamed = sorted(name for name in names if is_weight(name) and name not in shards)
        stale = f", and holds {some(unnamed)}, which {INDEX} does not name" if unnamed else ""
        raise UserError(
            "ModelNotFound",
            f"{store.uri} lacks {len(missing)} of {len(shards)} weight files, such as {missing[0]}{stale}: copy all files of "
            "the model, of one revision",
        )
    if SINGLE in names:
        return (SINGLE,)
    return shards or _refused_without_index(store, sorted(name for name in names if is_weight(name)))


def _shards(store: Store, names: set[str]) -> tuple[str, ...]:
    if INDEX not in names:
        return ()
    try:
        listed: Any = json.loads(store.read_text(INDEX) or "")
        shards = tuple(sorted(set(listed["weight_map"].values())))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            "ModelInvalid", f"{INDEX} of {store.uri} is not an index of weight files: copy it again"
        ) from error
    if not isinstance(listed.get("metadata"), dict):
        raise UserError(
            "ModelInvalid",
            f'{INDEX} of {store.uri} has no "metadata", which transformers requires: add "metadata": {{}} to it, or copy it again',
        )
    if not shards:
        raise UserError("ModelInvalid", f"{INDEX} of {store.uri} names no weight files: copy it again")
    return shards


def _refused_without_index(store: Store, weights: list[str]) -> tuple[str, ...]:
    """Raise UserError for weight files that nothing says how to read."""
    parts = [match for name in weights if (match := PART.search(name))]
    if parts:
        count = int(parts[0][2])
        lost = sorted(set(range(1, count + 1)) - {int(part[1]) for part in parts})
        gap = f" and lacks {len(lost)} of {count} parts, such as part {lost[0]}" if lost else ""
        raise UserError(
            "ModelInvalid",
            f"{store.uri} has its weights in parts ({some(weights)}) but no {INDEX}{gap}: copy all files of the model",
        )
    raise unnamed_weights(store, weights)
