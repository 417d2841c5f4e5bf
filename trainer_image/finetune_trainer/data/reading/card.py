"""The data card of a data set: README.md says which files belong to which configuration and split, on every store."""

import re
from typing import Any

import yaml

from finetune_trainer.data.reading.nearest import did_you_mean, nearest
from finetune_trainer.errors import UserError
from finetune_trainer.storage import Store, StoredFile
from finetune_trainer.storage.store import matching

Files = tuple[StoredFile, ...]
Splits = dict[str, Files]

NAMED_CONFIGS = 8
"""So many configurations a message names."""


def card_splits(store: Store, files: Files, config: str) -> Splits:
    """Return the files of each split as the card's `configs` say, as the hub's own viewer does; empty without any.

    Raises UserError(DatasetInvalid) where several configurations are there and none was chosen, or an unknown one was.
    """
    configs = [one for one in _configs(store) if isinstance(one, dict)]
    if not configs and not config:
        return {}
    chosen = _chosen(configs, config, store.uri)
    folder = str(chosen.get("data_dir") or "").strip("/")
    entries = chosen.get("data_files")
    if not entries:
        inside = tuple(file for file in files if not folder or file.path.startswith(f"{folder}/"))
        return named_splits(inside)
    if isinstance(entries, dict):
        entries = [{"split": split, "path": path} for split, path in entries.items()]
    if isinstance(entries, str) or (entries and isinstance(entries[0], str)):
        entries = [{"split": "train", "path": entries}]
    return {str(entry["split"]): _matching_any(files, entry["path"], folder) for entry in entries}


def _configs(store: Store) -> list[Any]:
    head = re.match(r"---\r?\n(.*?)\r?\n---", _readme(store), re.DOTALL)
    try:
        parsed = yaml.safe_load(head.group(1)) if head else {}
    except yaml.YAMLError:
        return []  # the hub shows such a card without its head, too
    configs = parsed.get("configs") if isinstance(parsed, dict) else None
    return configs if isinstance(configs, list) else []


def _readme(store: Store) -> str:
    try:
        return store.read_text("README.md") or ""
    except UnicodeDecodeError:
        return ""


def _chosen(configs: list[dict[str, Any]], config: str, uri: str) -> dict[str, Any]:
    named = {str(one.get("config_name", "default")): one for one in configs}
    names = ", ".join(list(named)[:NAMED_CONFIGS]) + (" ..." if len(named) > NAMED_CONFIGS else "")
    if config:
        if config in named:
            return named[config]
        raise UserError(
            "DatasetInvalid",
            f"{uri} has no configuration {config}: its data card names {names or 'none'}; correct datasets[].config"
            f"{did_you_mean([nearest(config, named)])}",
        )
    default = [one for name, one in named.items() if name == "default" or one.get("default")] or configs
    if len(default) == 1:
        return default[0]
    raise UserError(
        "DatasetInvalid",
        f"{uri} holds {len(configs)} datasets ({names}) and its data card names no default: choose one with "
        f"datasets[].config, such as config: {next(iter(named))}",
    )


def _matching_any(files: Files, patterns: str | list[str], folder: str) -> Files:
    several = [patterns] if isinstance(patterns, str) else patterns
    under = f"{folder}/" if folder else ""
    return tuple(dict.fromkeys(file for pattern in several for file in _matching(files, f"{under}{pattern}")))


def _matching(files: Files, pattern: str) -> Files:
    return matching(files, pattern) or matching(files, f"{pattern.rstrip('/')}/**")


SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}


def named_splits(files: Files) -> Splits:
    """Tell the splits by the words in the names of files and folders; all are `train` where no name says anything."""
    splits: Splits = {}
    for file in files:
        words = re.split(r"[^a-z]+", file.path.lower())
        name = next((name for name, aliases in SPLITS.items() if any(word in aliases for word in words)), "")
        splits[name] = (*splits.get(name, ()), file)
    unnamed = splits.pop("", ())
    return splits or {"train": unnamed}
