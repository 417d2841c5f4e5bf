"""The data of a task: which files of its folder, never a hub. Pure but for the card of a data set. Called by prepared."""

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from finetune_trainer.data.reading.nearest import did_you_mean, nearest
from finetune_trainer.data.tasks.files import TaskFolder
from finetune_trainer.errors import UserError
from finetune_trainer.storage.store import matching

READERS = ("json", "csv", "parquet", "arrow", "text")
"""Of the datasets library; others unpickle, or unpack archives."""

OPTIONS = {
    "data_files", "field", "delimiter", "sep", "column_names", "names", "header", "quotechar", "encoding", "skiprows", "sample_by",
    "keep_linebreaks",
}  # fmt: skip
NO_HARM = ("trust_remote_code", "cache_dir")
"""Options that say nothing about local files: left out, as lm-eval itself does."""

SAVED = ("dataset_dict.json", "state.json")
NAMED_FILES = 8
HEAD = re.compile(r"---\r?\n(.*?)\r?\n---", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskData:
    """Where lm-eval finds the documents, relative to the task's folder."""

    settings: dict[str, Any]
    files: tuple[str, ...]
    """What must be there, by paths in the folder."""


def task_data(folder: TaskFolder, path: str, settings: Mapping[str, Any]) -> TaskData:
    """Return the data of the task in the file at `path`. Raises UserError(DatasetInvalid) for what is missing or elsewhere."""
    source = str(settings.get("dataset_path") or "")
    options = {key: value for key, value in (settings.get("dataset_kwargs") or {}).items() if key not in NO_HARM}
    if not source:
        raise _invalid(f"dataset_path is missing: set it to {_readers()} and name files in dataset_kwargs.data_files")
    if unknown := sorted(set(options) - OPTIONS):
        raise _invalid(
            f"dataset_kwargs has {unknown[0]}, which is not supported: use data_files{did_you_mean([nearest(unknown[0], OPTIONS)])}"
        )
    if source in READERS:
        return _named_files(folder, path, source, options)
    return _data_set(folder, path, source, options, settings.get("dataset_name"))


def _named_files(folder: TaskFolder, path: str, reader: str, options: dict[str, Any]) -> TaskData:
    named = options.get("data_files")
    if not named:
        raise _invalid(
            f"dataset_path {reader} needs files: name them in dataset_kwargs.data_files, such as test: test.jsonl"
        )
    splits = named if isinstance(named, dict) else {"train": named}
    found = {str(split): _found(folder, path, patterns) for split, patterns in splits.items()}
    return TaskData(
        settings={"dataset_path": reader, "dataset_name": None, "dataset_kwargs": options | {"data_files": found}},
        files=tuple(dict.fromkeys(file for files in found.values() for file in files)),
    )


def _found(folder: TaskFolder, path: str, patterns: Any) -> list[str]:
    """Return the files that are meant: from the task's file, or from the folder."""
    return [
        file
        for pattern in (patterns if isinstance(patterns, list) else [patterns])
        for file in _matches(folder, path, str(pattern))
    ]


def _matches(folder: TaskFolder, path: str, pattern: str) -> Iterable[str]:
    if "://" in pattern:
        raise _invalid(
            f"data_files names {pattern}, which would be fetched: put the file into {folder.uri} and write its path"
        )
    for place in (posixpath.join(posixpath.dirname(path), pattern), pattern):
        normal = posixpath.normpath(place)
        if found := sorted(file.path for file in matching(folder.files.values(), normal)):
            return found
    there = [name for name in folder.files if not name.endswith((".yaml", ".yml"))]
    listed = (
        f"{', '.join(there[:NAMED_FILES])}{' ...' if len(there) > NAMED_FILES else ''}" if there else "no data file"
    )
    outside = " Paths start at the task's file or at the folder." if pattern.startswith(("/", "..", "~")) else ""
    raise _invalid(
        f"data_files names {pattern}, which is not in {folder.uri}, where there is {listed}.{outside}{_meant(pattern, there)}"
    )


def _meant(pattern: str, there: list[str]) -> str:
    name = nearest(posixpath.basename(pattern), [posixpath.basename(one) for one in there])
    return f" Did you mean {next(one for one in there if posixpath.basename(one) == name)}?" if name else ""


def _data_set(folder: TaskFolder, path: str, source: str, options: dict[str, Any], config: Any) -> TaskData:
    """Return a data set that lies in the folder as it does on a hub."""
    for place in (posixpath.join(posixpath.dirname(path), source), source):
        below = f"{posixpath.normpath(place)}/"
        files = tuple(name for name in folder.files if name.startswith(below))
        if files and not below.startswith("../"):
            _check_card(folder, below)
            _check_saved(source, files)
            if options:
                raise _invalid(
                    f"dataset_kwargs goes with dataset_path {_readers()}: remove it, or name the files in data_files"
                )
            kwargs: dict[str, Any] = {}
            return TaskData(
                settings={"dataset_path": below.rstrip("/"), "dataset_name": config, "dataset_kwargs": kwargs},
                files=files,
            )
    raise _invalid(
        f"dataset_path {source} would be fetched from a hub, but only files of {folder.uri} are read: put its files there, set "
        f"dataset_path to {_readers()}, and name them in dataset_kwargs.data_files"
    )


def _check_card(folder: TaskFolder, below: str) -> None:
    """A card may name files elsewhere, which would be fetched."""
    card = (folder.store.read_bytes(f"{below}README.md") or b"").decode("utf-8", "replace")
    head = HEAD.match(card)
    try:
        told = yaml.safe_load(head.group(1)) if head else None
    except yaml.YAMLError:
        told = None  # the library reads nothing from such a card either
    if isinstance(told, dict) and "://" in str(told.get("configs")):
        raise _invalid(
            f"{below}README.md names data_files with an address, which would be fetched: write paths of the folder"
        )


def _check_saved(source: str, files: Iterable[str]) -> None:
    """save_to_disk writes another form than a hub has, which lm-eval cannot load; its arrow files can be named."""
    if any(posixpath.basename(name) in SAVED for name in files):
        arrow = next((name for name in files if name.endswith(".arrow")), "test.arrow")
        raise _invalid(
            f"dataset_path {source} was written by save_to_disk: set dataset_path to arrow, and name its files in "
            f"dataset_kwargs.data_files, such as test: {arrow}"
        )


def _readers() -> str:
    *others, last = READERS
    return f"{', '.join(others)} or {last}"


def _invalid(message: str) -> UserError:
    return UserError("DatasetInvalid", message)
