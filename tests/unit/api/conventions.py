"""The conventions of a Kubernetes API as checks over a CRD's schema; the rules are those of JobSet's API linter.

Every check yields "path: what is wrong". test_conventions.py runs them over the CRDs, and over broken schemas.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from finetune_operator.api.crd import TYPE_META

Schema = dict[str, Any]
Check = Callable[[str, Schema], Iterator[str]]

BOOLEANS = {
    "suspend": "the name and type that batch/Job uses",
    "planOnly": "a third stop would be another field: the plan is the only thing before GPUs",
    "trustRemoteCode": "code runs or does not; transformers has the same name and type",
    "experts": "adapted or not; which ones is a question of targetModules",
    "baseline": "measured or not",
    "pinnedRevision": "required or not; which form a revision has is the hub's",
    "budget": "required or not; its size is a limit of its own",
    "queue": "required or not; which queue is the job's or a default",
    "failover": "allowed or not; which pools is a question of resources.pools",
    "sampled": "a fact about a count",
    "tiedEmbeddings": "a fact about a model",
    "activationCheckpointing": "on or off in the trainer we ship",
    "handedOver": "an attempt publishes or leaves it; who publishes it then is status.export",
    "publishes": "the plan only: what else the Pod makes is output.exports",
    "packing": "the plan only: the user's own field is an enum",
}
"""Booleans that may stay, each with the reason why no third value is thinkable."""

PHASES = {
    "status.phase": "one word for kubectl get, derived and never read back",
    "status.progress.phase": "what the trainer is doing",
}


FREE_MAPS = dict.fromkeys(
    ("status.plan", "status.plan.pool", "status.plan.estimate", "status.preflight", "status.resolved"),
    "operators before FineTunePlans wrote all of it here, and what the schema does not know would be dropped when it is read",
)
"""Fields that may hold what their schema does not know, each with the reason."""


def fields(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Yield (path, schema) of every field below a struct; list items have [] in their path."""
    for name, field in schema.get("properties", {}).items():
        below = f"{path}.{name}" if path else name
        yield below, field
        yield from fields(field, below)
        if "items" in field:
            yield f"{below}[]", field["items"]
            yield from fields(field["items"], f"{below}[]")


def no_floats(path: str, field: Schema) -> Iterator[str]:
    """Floats differ between languages; decimals are strings."""
    if field["type"] == "number" or field.get("format") in ("float", "double"):
        yield f"{path}: is a float; use a decimal string"


def no_booleans(path: str, field: Schema) -> Iterator[str]:
    """A boolean cannot grow a third value."""
    if field["type"] == "boolean" and path.rsplit(".", 1)[-1] not in BOOLEANS:
        yield f"{path}: is a boolean; use an enum, or say in BOOLEANS why not"


def bounded(path: str, field: Schema) -> Iterator[str]:
    """CEL's cost estimate and etcd need bounds."""
    if "enum" in field:
        return
    needed = {"string": ("maxLength",), "array": ("maxItems",), "integer": ("minimum", "maximum")}
    for bound in needed.get(field["type"], ()):
        if bound not in field:
            yield f"{path}: has no {bound}"


def typed_lists(path: str, field: Schema) -> Iterator[str]:
    """Server-side apply must know how two writers' lists merge."""
    if field["type"] != "array":
        return
    kind = field.get("x-kubernetes-list-type")
    item = field["items"]
    if kind is None:
        yield f"{path}: has no x-kubernetes-list-type"
    if kind == "set" and item["type"] == "object":
        yield f"{path}: is a set of objects; use map or atomic"
    if kind == "map":
        keys = field.get("x-kubernetes-list-map-keys", [])
        if not keys:
            yield f"{path}: is a map list without keys"
        for key in keys:
            if key not in item.get("required", ()) and "default" not in item["properties"].get(key, {}):
                yield f"{path}: its key {key} is not required"


def described(path: str, field: Schema) -> Iterator[str]:
    """kubectl explain prints the descriptions: each is a sentence."""
    if path.endswith("[]") and field["type"] != "object":
        return
    text = field.get("description", "")
    if not text:
        yield f"{path}: has no description"
    elif not re.match(r"[A-Z]", text) or not text.endswith((".", ".)")):
        yield f"{path}: its description is no sentence: {text!r}"


def no_durations(path: str, field: Schema) -> Iterator[str]:
    """Durations are whole seconds with the unit in the name; Go's "1h" cannot be compared in CEL of every version."""
    name = path.rsplit(".", 1)[-1].lower()
    if field.get("format") == "duration" or (
        field["type"] == "string" and name.endswith(("duration", "timeout", "seconds"))
    ):
        yield f"{path}: is a duration in a string; use an integer named ...Seconds"
    if field["type"] == "integer" and name.endswith(("duration", "timeout")):
        yield f"{path}: has no unit in its name; call it ...Seconds"


def camel_case(path: str, _field: Schema) -> Iterator[str]:
    """Names are camelCase; acronyms keep their capitals."""
    name = path.rsplit(".", 1)[-1].removesuffix("[]")
    if not re.fullmatch(r"[a-z][A-Za-z0-9]*", name):
        yield f"{path}: is not camelCase"


def consistent_presence(path: str, field: Schema) -> Iterator[str]:
    """A default on a required field never applies; a required name must exist; null is no third state."""
    for name in field.get("required", ()):
        if name not in field.get("properties", {}):
            yield f"{path}: requires {name}, which it does not have"
        elif "default" in field["properties"][name]:
            yield f"{path}.{name}: is required and has a default"
    if field.get("nullable"):
        yield f"{path}: is nullable; leave it out instead"


def no_free_maps(path: str, field: Schema) -> Iterator[str]:
    """Free maps cannot be validated, explained or merged."""
    if path in FREE_MAPS:
        return
    if "additionalProperties" in field or field.get("x-kubernetes-preserve-unknown-fields"):
        yield f"{path}: is a free map; use a list of structs"
    if field["type"] == "object" and not field.get("properties"):
        yield f"{path}: is an object without fields"


def no_phases(path: str, _field: Schema) -> Iterator[str]:
    """Phases are deprecated: conditions carry the state."""
    if path.rsplit(".", 1)[-1] == "phase" and path not in PHASES:
        yield f"{path}: is a phase; use a condition"


def conditions_are_conditions(path: str, field: Schema) -> Iterator[str]:
    """Conditions have the shape of metav1.Condition and are keyed by type."""
    if path.rsplit(".", 1)[-1] != "conditions":
        return
    if field.get("x-kubernetes-list-map-keys") != ["type"]:
        yield f"{path}: is not keyed by type"
    wanted = {"type", "status", "reason", "message", "lastTransitionTime", "observedGeneration"}
    if missing := sorted(wanted - set(field["items"].get("properties", {}))):
        yield f"{path}: has no {', '.join(missing)}"


def rules_say_what_to_do(path: str, field: Schema) -> Iterator[str]:
    """A user reads the message of a broken rule: what and what to do, no full stop, as kubectl prints it in a list."""
    for rule in field.get("x-kubernetes-validations", ()):
        text = rule.get("message", "")
        if len(text) < 20 or text.endswith("."):
            yield f"{path}: the message of a rule is missing, too short, or ends with a full stop: {text!r}"


CHECKS: tuple[Check, ...] = (
    no_floats,
    no_booleans,
    bounded,
    typed_lists,
    described,
    no_durations,
    camel_case,
    consistent_presence,
    no_free_maps,
    no_phases,
    conditions_are_conditions,
    rules_say_what_to_do,
)


def lint(crd: Schema) -> list[str]:
    """Return everything that is wrong with a CRD."""
    return [problem for version in crd["spec"]["versions"] for problem in _lint_version(version)]


def _lint_version(version: Schema) -> Iterator[str]:
    root = version["schema"]["openAPIV3Schema"]
    if "status" in root["properties"] and "status" not in version.get("subresources", {}):
        yield "status: has no subresource"
    if not root.get("description"):
        yield "the kind has no description"
    yield from rules_say_what_to_do("the kind", root)
    parts = {name: field for name, field in root["properties"].items() if name not in TYPE_META}
    for path, field in fields({"properties": parts}):
        for check in CHECKS:
            yield from check(path, field)
