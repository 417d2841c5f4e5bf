"""A command line of a known trainer as a job: of a Pod, or in a shell script. Called by kubeflow and formats."""

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune_operator.cli.importing import llamafactory, trl
from finetune_operator.cli.importing.imported import Imported
from finetune_operator.errors import FinetuneError

FLAGS = ("--model_name_or_path", "--model_uri", "--model-name-or-path")
UNKNOWN = (
    "its trainer is not known: TRL's flags (--model_name_or_path), LLaMA-Factory's, train() of the Kubeflow SDK and the runtimes "
    "of torchtune are read. If it is a script with a configuration of its own, import that file"
)
VARIABLE = re.compile(r"^(?:export\s+)?([A-Za-z_]\w*)=([^\s()$`]*|\"[^\"$`]*\"|'[^']*')\s*$", re.MULTILINE)


def is_script(text: str) -> bool:
    """Tell a shell script that starts a trainer from YAML."""
    names_a_model = any(re.search(rf"(^|\s){flag}[\s=]", text) for flag in FLAGS)
    return (
        names_a_model
        and not text.lstrip().startswith("{")
        and not re.search(r"^(apiVersion|kind):", text, re.MULTILINE)
    )


def from_script(text: str, name: str) -> Imported:
    """Return the job of the trainer that a shell script starts; its plain variables are filled in."""
    text = "".join(line for line in text.splitlines(keepends=True) if not line.lstrip().startswith("#"))
    known = {key: value.strip("\"'") for key, value in VARIABLE.findall(text)}
    filled = re.sub(r"\$\{?(\w+)\}?", lambda match: known.get(match[1], match[0]), text.replace("\\\n", " "))
    try:
        words = shlex.split(filled, comments=True)
    except ValueError as error:
        raise FinetuneError(f"the script cannot be read: {error}") from error
    return from_flags(words, name, "a script")


def from_flags(words: list[str], name: str, tool: str) -> Imported:
    """Read --flag value and --flag=value as transformers' argument parser does."""
    flags = _flags(words)
    if not any(flag.removeprefix("--").replace("-", "_") in flags for flag in FLAGS):
        raise FinetuneError(UNKNOWN)
    if llamafactory.recognises(flags):
        job = llamafactory.convert(flags, name, Path("/nowhere"))
        job.tool = f"{tool} with LLaMA-Factory"
        return job
    return trl.convert(_with_parts(flags), name, tool)


def _flags(words: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for index, word in enumerate(words):
        if not word.startswith("--"):
            continue
        key, equals, value = word.removeprefix("--").partition("=")
        following = words[index + 1] if index + 1 < len(words) else ""
        found[key.replace("-", "_")] = (
            value if equals else following if following and not following.startswith("--") else "true"
        )
    return found


def _with_parts(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags with the JSON objects that train() of the SDK hands over: lora_config, training_parameters, providers."""
    parts = ("lora_config", "training_parameters", "model_provider_parameters", "dataset_provider_parameters")
    found = {key: value for key, value in flags.items() if key not in parts}
    for part in parts:
        try:
            inner = json.loads(flags.get(part, "{}"))
        except ValueError:
            inner = {}
        found |= inner if isinstance(inner, dict) else {}
    return found
