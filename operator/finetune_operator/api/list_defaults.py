"""Entries of lists get no defaults from the API server, for crd.py; the models fill them in when a job is read.

`kubectl apply` compares lists as a whole: an entry that the server has filled in is another one than the entry in the file, so that
applying the same file again would say "configured" for ever.
"""

import json
import re

from finetune_operator.api.cel import VALIDATIONS
from finetune_operator.api.structural import Schema


def without_entry_defaults(schema: Schema, *, entry: bool = False) -> Schema:
    """Return a schema whose list entries hold no defaults: descriptions tell them, and rules reckon with their absence."""
    out = dict(schema)
    if "properties" in out:
        fields = {name: without_entry_defaults(sub, entry=entry) for name, sub in out["properties"].items()}
        defaults = {name: sub["default"] for name, sub in fields.items() if "default" in sub} if entry else {}
        out["properties"] = fields | {name: told(fields[name]) for name in defaults}
        if VALIDATIONS in out:
            out[VALIDATIONS] = [rule | {"rule": filled(rule["rule"], defaults)} for rule in out[VALIDATIONS]]
    if "items" in out:
        out["items"] = without_entry_defaults(out["items"], entry=True)
    return out


def told(field: Schema) -> Schema:
    """Return a field that says its default instead of having it."""
    default = field["default"]
    words = (
        field["description"] if isinstance(default, dict) else f"{field['description']} Default: {json.dumps(default)}."
    )
    return {key: value for key, value in field.items() if key != "default"} | {"description": words}


def filled(cel: str, defaults: Schema) -> str:
    """Return a rule over an entry that reads the default of a field that is not there."""
    for name, default in defaults.items():
        literal = f"'{default}'" if isinstance(default, str) else json.dumps(default)
        cel = re.sub(rf"(?<!has\()self\.{name}\b", f"(has(self.{name}) ? self.{name} : {literal})", cel)
    return cel
