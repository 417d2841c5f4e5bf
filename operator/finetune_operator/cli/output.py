"""`-o json|yaml|name|wide`, and files: the same on every command that has them. Called by the commands."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from finetune_operator.errors import FinetuneError

FORMATS = ("json", "yaml", "name", "wide")

Output = Annotated[
    str,
    typer.Option(
        "-o",
        "--output",
        metavar="FORMAT",
        help="json or yaml; where a list is printed also name or wide.",
        autocompletion=lambda: list(FORMATS),
    ),
]


def allowed(given: str, *formats: str) -> str:
    """Return the format that was asked for; empty for the usual one. Raises typer.BadParameter for another one."""
    if given and given not in formats:
        known = f"{', '.join(formats[:-1])} or {formats[-1]}" if len(formats) > 1 else formats[0]
        raise typer.BadParameter(f"{given!r} is not {known}", param_hint="-o")
    return given


def write_file(to: str, text: str) -> str:
    """Write a file as UTF-8, whatever the locale is, and return its path. Raises FinetuneError saying why it cannot be written."""
    file = Path(to).expanduser()  # a shell leaves the ~ of `--to=~/report.html` as it is
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FinetuneError(f"{file} cannot be written: {error.strerror}") from error
    return str(file)


def print_object(value: Any, shape: str) -> None:
    """Print an object as JSON or YAML."""
    print(in_shape(value, shape), end="")


def print_list(values: Sequence[Mapping[str, Any]], shape: str) -> None:
    """Print objects as JSON or YAML, or the name of each on a line."""
    print("".join(f"{each['name']}\n" for each in values) if shape == "name" else in_shape(values, shape), end="")


def in_shape(value: Any, shape: str) -> str:
    """Return an object as JSON or YAML, with its last line ended."""
    if shape == "json":
        return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    from ruamel.yaml import YAML  # noqa: PLC0415  # most calls print no YAML

    yaml, text = YAML(typ="safe", pure=True), io.StringIO()
    yaml.default_flow_style, yaml.sort_base_mapping_type_on_output = False, False
    yaml.width, yaml.allow_unicode = 10_000, True
    yaml.dump(json.loads(json.dumps(value)), text)
    return text.getvalue()
