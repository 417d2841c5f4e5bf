"""From pydantic's JSON schema to a Kubernetes structural schema, for crd.py. The models stay inside what it knows."""

from typing import Any

Schema = dict[str, Any]
DROPPED = {"title", "$defs"}


def to_structural(schema: Schema, defs: dict[str, Schema] | None = None) -> Schema:
    """Rewrite a pydantic JSON schema: references inlined, `X | None` an optional X. A real union raises ValueError."""
    defs = schema.get("$defs", {}) if defs is None else defs
    if ref := schema.get("$ref"):
        return to_structural(_merged(defs[ref.removeprefix("#/$defs/")], schema, "$ref"), defs)
    if branches := schema.get("anyOf"):
        (only,) = [branch for branch in branches if branch.get("type") != "null"]
        return to_structural(_merged(only, schema, "anyOf"), defs)
    out = {key: value for key, value in schema.items() if key not in DROPPED}
    if "description" in out:
        out["description"] = " ".join(out["description"].split())
    if "default" in out:
        out |= _default(out.pop("default"))
    if "const" in out:
        out["enum"] = [out.pop("const")]
    if "properties" in out:
        out.pop("additionalProperties", None)  # the API server itself refuses or prunes unknown fields
        out["properties"] = {name: to_structural(sub, defs) for name, sub in out["properties"].items()}
    if "items" in out:
        out["items"] = to_structural(out["items"], defs)
    return out


def _merged(target: Schema, user: Schema, by: str) -> Schema:
    """The field's own words win over those of its type."""
    return target | {key: value for key, value in user.items() if key != by}


def _default(value: object) -> Schema:
    """A struct's default is written out: the API server checks a default against the rules before it fills it in."""
    return {} if value is None else {"default": _present(value)}


def _present(value: object) -> object:
    if not isinstance(value, dict):
        return value
    return {key: _present(item) for key, item in value.items() if item is not None}
