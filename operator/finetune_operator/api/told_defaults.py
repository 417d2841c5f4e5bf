"""Defaults that descriptions tell instead of the schema filling them in, for crd.py; the models fill them in when a job is read.

The object then holds what its author wrote. A default that the server writes into it makes every copy and comparison of the object longer,
and `kubectl apply` compares lists as a whole: an entry that the server has filled in is another one than the entry in the file, so that
applying the same file again would say "configured" for ever.
"""

import json
import re

from finetune_operator.api.cel import VALIDATIONS, quoted
from finetune_operator.api.structural import Schema

PATH = re.compile(r"(has\()?\bself((?:\.\w+)+)(?(1)\))")
"""A field that a rule reads, or asks for with has()."""


def without_defaults(schema: Schema) -> Schema:
    """Return a schema without defaults: descriptions tell them, and rules reckon with their absence."""
    out = {key: value for key, value in schema.items() if key != "default"}
    if VALIDATIONS in out:
        out[VALIDATIONS] = [rule | {"rule": reckoning(rule["rule"], schema)} for rule in out[VALIDATIONS]]
    if "properties" in out:
        out["properties"] = {name: told(without_defaults(sub), sub) for name, sub in out["properties"].items()}
    if "items" in out:
        out["items"] = without_defaults(out["items"])
    return out


def without_entry_defaults(schema: Schema) -> Schema:
    """Return a schema of which the entries of lists have no defaults."""
    out = dict(schema)
    if "properties" in out:
        out["properties"] = {name: without_entry_defaults(sub) for name, sub in out["properties"].items()}
    if "items" in out:
        out["items"] = without_defaults(out["items"])
    return out


def told(field: Schema, before: Schema) -> Schema:
    """Return a field whose description says its default, if no other words there do."""
    default = before.get("default")
    if default is None or isinstance(default, dict) or "Default:" in field["description"]:
        return field
    words = "none" if default == [] else json.dumps(default)
    return field | {"description": f"{field['description']} Default: {words}."}


def reckoning(cel: str, schema: Schema) -> str:
    """Return a rule over a struct that reads the default of a field that is not there."""
    return PATH.sub(lambda found: _asked(found, schema) if found[1] else _read(found, schema), cel)


def is_there(path: str) -> str:
    """Return in CEL: a field is there, and all that is above it."""
    return f"{path.replace('.', '.?')}.hasValue()"


def value_or(path: str, absent: str) -> str:
    """Return the value of a field in CEL. The API server knows how long it can be; of orValue() it would reckon with any length."""
    return f"({is_there(path)} ? {path} : {absent})"


def _asked(found: re.Match[str], schema: Schema) -> str:
    fields = _fields(found[2], schema)
    guarded = any("default" in field for _, field in fields[:-1])
    return is_there(fields[-1][0]) if guarded else found[0]


def _read(found: re.Match[str], schema: Schema) -> str:
    """Return the value of a field, or its default. What has none is read behind a has() of the rule's own."""
    fields = _fields(found[2], schema)
    if not fields or "default" not in fields[-1][1]:
        return found[0]
    path, field = fields[-1]
    return value_or(path, literal(field["default"])) + found[0].removeprefix(path)


def _fields(names: str, schema: Schema) -> list[tuple[str, Schema]]:
    """Return path and schema of each field on a path; it ends where a function begins, such as matches."""
    fields, path = [], "self"
    for name in names.split(".")[1:]:
        if name not in schema.get("properties", {}):
            break
        schema, path = schema["properties"][name], f"{path}.{name}"
        fields.append((path, schema))
    return fields


def literal(default: object) -> str:
    """Return a default in CEL."""
    return quoted(default) if isinstance(default, str) else json.dumps(default)
