"""Which files of a location hold the rows: by suffix, by split, by the data card of a hub repository."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from finetune_contract import Dataset

from finetune_trainer.errors import UserError
from finetune_trainer.storage import Role, Store, StoredFile, open_location
from finetune_trainer.storage.formats import PICKLES
from finetune_trainer.storage.store import matching, not_found

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet", ".arrow")
NOT_ROWS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "package.json", "config.json")
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFiles:
    """The files of one data set, in order."""

    store: Store
    files: tuple[StoredFile, ...]

    @property
    def size_bytes(self) -> int:
        """Size of all files."""
        return sum(file.size_bytes for file in self.files)

    def fetch(self, into: Path) -> Path:
        """Bring the files to the workspace (or use them in place) and return their folder."""
        return self.store.fetch(into, [file.path for file in self.files])


def data_files(dataset: Dataset) -> DataFiles:
    """Return the files of a data set. Raises UserError with what is there and what to write instead."""
    store = open_location(dataset.location, Role.DATASET)
    listed = store.files()
    if not listed:
        raise not_found(Role.DATASET, f"the data set {store.uri}")
    _refuse_pickles(store.uri, listed)
    visible = [file for file in listed if not re.search(r"(^|/)[._]", file.path)]
    rows = tuple(
        file for file in visible if file.path.lower().endswith(SUFFIXES) and Path(file.path).name not in NOT_ROWS
    )
    if not rows:
        names = ", ".join(file.path for file in visible[:3]) or "nothing"
        raise UserError(
            "DatasetInvalid",
            f"{store.uri} has no files of rows, only {names}: rows come from {', '.join(SUFFIXES)}",
        )
    named = "*" in store.uri or store.uri.lower().endswith(SUFFIXES)
    chosen = rows if named else _of_split(store, rows, dataset.split)
    return DataFiles(store=store, files=chosen)


def _refuse_pickles(uri: str, files: Sequence[StoredFile]) -> None:
    pickles = [file.path for file in files if file.path.lower().endswith(PICKLES)]
    if pickles and not uri.startswith("hf://"):  # of a hub repository only the files of rows are downloaded
        raise UserError(
            "DatasetInvalid",
            f"{uri} holds pickle files such as {pickles[0]}, which run code when loaded: name the files of rows by a "
            "glob such as *.jsonl, or remove them",
        )


def _of_split(store: Store, files: tuple[StoredFile, ...], split: str) -> tuple[StoredFile, ...]:
    """Return the files of a split: as the data card says, else by the words in their names, else all are `train`."""
    by_split = _card_splits(store, files) or _named_splits(files)
    wanted = next((name for name, aliases in SPLITS.items() if split in aliases), split)
    chosen = by_split.get(split) or by_split.get(wanted)
    if not chosen:
        raise UserError("DatasetNotFound", f"{store.uri} has no split {split}: it has {', '.join(sorted(by_split))}")
    return chosen


def _named_splits(files: tuple[StoredFile, ...]) -> dict[str, tuple[StoredFile, ...]]:
    splits: dict[str, tuple[StoredFile, ...]] = {}
    for file in files:
        words = re.split(r"[^a-z]+", file.path.lower())
        name = next((name for name, aliases in SPLITS.items() if any(word in aliases for word in words)), "")
        splits[name] = (*splits.get(name, ()), file)
    unnamed = splits.pop("", ())
    return splits or {"train": unnamed}


def _card_splits(store: Store, files: tuple[StoredFile, ...]) -> dict[str, tuple[StoredFile, ...]]:
    """Read the `configs` of a data card, as the hub's own viewer does."""
    configs = _card(store).get("configs") if store.uri.startswith("hf://") else None
    if not isinstance(configs, list) or not configs:
        return {}
    chosen = [one for one in configs if one.get("config_name") == "default" or one.get("default")] or configs
    if len(chosen) > 1:
        names = ", ".join(str(one.get("config_name")) for one in chosen[:8])
        raise UserError(
            "DatasetInvalid",
            f"{store.uri} holds {len(configs)} data sets ({names}) and names no default: copy the files you mean to a "
            "bucket or volume and name them there",
        )
    entries = chosen[0].get("data_files") or []
    if isinstance(entries, str):
        entries = [{"split": "train", "path": entries}]
    return {str(entry["split"]): _matching_any(files, entry["path"]) for entry in entries}


def _card(store: Store) -> dict[str, Any]:
    head = re.match(r"---\n(.*?)\n---", store.read_text("README.md") or "", re.DOTALL)
    try:
        parsed = yaml.safe_load(head.group(1)) if head else {}
    except yaml.YAMLError:
        return {}  # the hub shows such a card without its head, too
    return parsed if isinstance(parsed, dict) else {}


def _matching_any(files: tuple[StoredFile, ...], patterns: str | list[str]) -> tuple[StoredFile, ...]:
    several = [patterns] if isinstance(patterns, str) else patterns
    return tuple(dict.fromkeys(file for pattern in several for file in matching(files, pattern)))
