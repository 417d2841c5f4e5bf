"""The YAML files of a folder: which one is the task, with what it includes. Tags that would run code become marks. Called by prepared."""

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from finetune_contract import LmEval

from finetune_trainer.data.reading.nearest import did_you_mean, nearest
from finetune_trainer.errors import UserError
from finetune_trainer.storage import Role, Store, StoredFile, open_location

LARGEST_YAML = 1 << 20
MOST_YAML = 5000
NAMED_TASKS = 12
"""So many names a message lists."""

ASIDE = (".ipynb_checkpoints", "__pycache__", ".git")
OF_GROUPS = ("group", "group_alias", "task", "aggregate_metric_list", "tag", "metadata")
NOT_SETTINGS = ("tag", "group", "group_alias", "task_list", "include", "aggregate_metric_list")
"""What a file says about files, not about its task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeTag:
    """A YAML tag such as `!function utils.process_docs`, which lm-eval would import and run."""

    tag: str
    value: str


class Marking(yaml.SafeLoader):
    """Reads plain values, and any other tag as a mark."""


def _mark(_loader: yaml.SafeLoader, _suffix: str, node: yaml.Node) -> CodeTag:
    return CodeTag(
        tag=node.tag.replace("tag:yaml.org,2002:", "!!"),
        value=node.value if isinstance(node, yaml.ScalarNode) else "...",
    )


Marking.add_multi_constructor("!", _mark)
Marking.add_multi_constructor("tag:yaml.org,2002:python/", _mark)


class TaskFolder:
    """A folder with task files, and what lies in it."""

    def __init__(self, asked: LmEval) -> None:
        self.store: Store = open_location(asked.location, Role.DATASET, revision=asked.revision)
        self.files: dict[str, StoredFile] = {file.path: file for file in self.store.files()}
        self.uri = self.store.uri

    def task(self, name: str) -> tuple[str, dict[str, Any]]:
        """Return the file of a task and its settings, with what it includes. Raises UserError for a name that none has."""
        read = {path: self._yaml(path) for path in self._yaml_paths()}
        settings = {path: data for path, data in read.items() if isinstance(data, dict)}
        found = [(path, data) for path, data in settings.items() if data.get("task") == name]
        found = found or [
            (path, member) for path, data in settings.items() for member in _inline(data) if member["task"] == name
        ]
        if len(found) > 1:
            raise UserError(
                "DatasetInvalid",
                f"{self.uri} has the task {name} in {' and in '.join(path for path, _ in found)}: give them different names",
            )
        if not found:
            raise UserError("DatasetInvalid", self._unknown(name, settings, read))
        ((path, data),) = found
        merged = self._with_included(path, data, ())
        return path, {key: value for key, value in merged.items() if key not in NOT_SETTINGS}

    def _yaml_paths(self) -> list[str]:
        paths = [
            path for path in self.files if path.endswith((".yaml", ".yml")) and not set(path.split("/")) & set(ASIDE)
        ]
        if len(paths) > MOST_YAML:
            raise UserError(
                "DatasetInvalid", f"{self.uri} has {len(paths):,} YAML files: name a folder with the task alone"
            )
        return paths

    def _yaml(self, path: str) -> Any:
        """Return what a file says, or the reason why it says nothing."""
        text = self.store.read_bytes(path, LARGEST_YAML + 1) or b""
        if len(text) > LARGEST_YAML:
            return f"{path} is larger than 1 MiB"
        try:
            return yaml.load(text, Loader=Marking)  # noqa: S506 - a SafeLoader
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            return f"{path} is not valid YAML: {' '.join(str(error).split())}"

    def _with_included(self, path: str, settings: Mapping[str, Any], seen: tuple[str, ...]) -> dict[str, Any]:
        """Return settings on top of those that they include, as lm-eval merges them."""
        if path in seen:
            raise UserError("DatasetInvalid", f"{self.uri}: {' includes '.join((*seen, path))}: remove one of them")
        included = settings.get("include") or []
        merged: dict[str, Any] = {}
        for name in included if isinstance(included, list) else [included]:
            place = posixpath.normpath(posixpath.join(posixpath.dirname(path), str(name)))
            if place not in self.files:
                raise UserError(
                    "DatasetInvalid",
                    f"{self.uri}: {path} includes {name}, which is not in the folder: add it, or write its path from {path}",
                )
            data = self._yaml(place)
            if not isinstance(data, dict):
                raise UserError(
                    "DatasetInvalid", f"{self.uri}: {data if isinstance(data, str) else f'{place} is empty'}"
                )
            merged |= self._with_included(place, data, (*seen, path))
        return merged | dict(settings)

    def _unknown(self, name: str, settings: Mapping[str, dict[str, Any]], read: Mapping[str, Any]) -> str:
        for data in settings.values():
            if data.get("group") == name and not _is_task(data):
                return (
                    f"{name} in {self.uri} is a group: measure its tasks, each as a metric of its own: "
                    f"{_listed(_members(data))}"
                )
        tagged = sorted(str(data["task"]) for data in settings.values() if name in _tags(data) and _is_task(data))
        if tagged:
            return f"{name} in {self.uri} is a tag: measure its tasks, each as a metric of its own: {_listed(tagged)}"
        inline = (str(member["task"]) for data in settings.values() for member in _inline(data))
        names = sorted({*(str(data["task"]) for data in settings.values() if _is_task(data)), *inline})
        broken = [reason for reason in read.values() if isinstance(reason, str)]
        there = f"its YAML files name {_listed(names)}" if names else "it has no YAML file that names a task"
        wrong = f"; {broken[0]}" if broken else ""
        return f"{self.uri} has no task {name}: {there}{wrong}{did_you_mean([nearest(name, names)])}"


def _is_task(data: Mapping[str, Any]) -> bool:
    """Tell whether a file is a task; beside its name, `group` means a tag in older files."""
    return isinstance(data.get("task"), str)


def _inline(data: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the tasks that a group spells out, on top of what the group says of all of them."""
    members = data.get("task")
    shared = {key: value for key, value in data.items() if key not in OF_GROUPS}
    for member in members if isinstance(members, list) else []:
        if isinstance(member, dict) and isinstance(member.get("task"), str):
            yield shared | member


def _tags(data: Mapping[str, Any]) -> list[str]:
    tags = data.get("tag") or data.get("group") or []
    return [tags] if isinstance(tags, str) else [str(tag) for tag in tags]


def _members(data: Mapping[str, Any]) -> list[str]:
    members = data.get("task") or []
    return [
        str(one.get("task") or one.get("group")) if isinstance(one, dict) else str(one)
        for one in (members if isinstance(members, list) else [members])
    ]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:NAMED_TASKS]) + (
        f" and {len(names) - NAMED_TASKS} more" if len(names) > NAMED_TASKS else ""
    )


def code_tags(value: Any, field: str = "") -> Iterator[tuple[str, CodeTag]]:
    """Yield the marks in settings by their fields."""
    if isinstance(value, CodeTag):
        yield field, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from code_tags(item, f"{field}.{key}" if field else str(key))
    elif isinstance(value, list):
        for item in value:
            yield from code_tags(item, field)
