"""The generated parts of the chart: what a GPUPool is in values.schema.json, the table of values in README.md, the dashboard.

Called by generate. The first two are written by hand but for that part.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from finetune_operator.api.crd import pool_crd
from finetune_operator.api.structural import Schema
from finetune_operator.cli.generate_dashboard import DASHBOARD, dashboard

CHART = Path("charts/finetune-operator")
BEGIN, END = "<!-- values: generated from values.yaml by `make generate` -->\n", "<!-- end of values -->\n"
KEY = re.compile(r"^(?P<indent> *)(?P<name>[A-Za-z]+):(?P<rest>.*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One value of the chart."""

    path: str
    default: Any
    description: str


def chart_files(directory: Path) -> dict[Path, str]:
    """Return the text of the chart's partly generated files; `directory` is the repository."""
    schema, readme = CHART / "values.schema.json", CHART / "README.md"
    values = documented((directory / CHART / "values.yaml").read_text())
    return {
        schema: with_pools((directory / schema).read_text()),
        readme: with_values((directory / readme).read_text(), values),
        DASHBOARD: dashboard(),
    }


def with_pools(text: str) -> str:
    """Return values.schema.json with what a GPUPool's spec may hold, as the CRD says."""
    schema = json.loads(text)
    root = pool_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["definitions"]["gpuPool"] = closed(root["properties"]["spec"])
    return json.dumps(schema, indent=2) + "\n"


def closed(schema: Schema) -> Schema:
    """Return a structural schema as a plain JSON schema that refuses unknown fields; CEL stays with the API server."""
    out = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes-") and key != "format"}
    if "properties" in out:
        out["properties"] = {name: closed(field) for name, field in out["properties"].items()}
        out["additionalProperties"] = False
    if "items" in out:
        out["items"] = closed(out["items"])
    return out


def with_values(text: str, values: list[Value]) -> str:
    """Return README.md with the table of values."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{CHART / 'README.md'} is missing the line {BEGIN.strip()} or {END.strip()}")
    rows = "".join(f"| `{value.path}` | `{json.dumps(value.default)}` | {value.description} |\n" for value in values)
    return f"{before}{BEGIN}\n| value | default | what it does |\n|---|---|---|\n{rows}\n{END}{after}"


def documented(text: str) -> list[Value]:
    """Return the values of a values.yaml with their comments, in its order. A value without a comment is an error."""
    defaults = yaml.safe_load(text)
    found: list[Value] = []
    for path, description in _commented(text):
        if description:
            found.append(Value(path=path, default=_at(defaults, path), description=description))
    bare = [path for path in _leaves(defaults, "") if not any(f"{path}.".startswith(f"{each.path}.") for each in found)]
    if bare:
        raise ValueError(f"values.yaml has no comment for {', '.join(bare)}")
    return found


def _commented(text: str) -> Iterator[tuple[str, str]]:
    """Yield the dotted path of every key with the comment lines right above it."""
    parents: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        match = KEY.match(line)
        if match is None:
            stripped = line.strip()
            comment = [*comment, stripped.removeprefix("# ")] if stripped.startswith("#") else []
            continue
        parents = [*parents[: len(match["indent"]) // 2], match["name"]]
        yield ".".join(parents), " ".join(comment)
        comment = []


def _leaves(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _leaves(item, f"{path}.{name}".removeprefix("."))
    else:
        yield path


def _at(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value[name]
    return value
