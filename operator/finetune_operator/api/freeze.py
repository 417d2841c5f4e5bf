"""What freezes once a job runs: the rule of the API server that compares a spec with the one before. Put on the schema by crd."""

from finetune_contract.wire import camel

from finetune_operator.api.cel import quoted
from finetune_operator.api.spec import FineTuneJobSpec, RunPolicySpec
from finetune_operator.api.structural import Schema
from finetune_operator.api.told_defaults import is_there, literal, value_or

MUTABLE = (
    "suspend",
    "runPolicy.budget",
    "runPolicy.activeDeadlineSeconds",
    "runPolicy.podRetentionSeconds",
    "runPolicy.ttlSecondsAfterFinished",
)
"""What may change while a job runs. Everything else is pinned with the first attempt: one job is one run."""

FROZEN_MESSAGE = (
    " cannot be changed once the first attempt has started: apply the changed job under a new name with another"
    " output.destination (only suspend, runPolicy.budget, activeDeadlineSeconds, podRetentionSeconds and"
    " ttlSecondsAfterFinished can be changed)"
)

ABSENT = {"string": "''", "integer": "-1", "array": "[]"}
"""What stands for a field that has no default and is not there: no value that a user could write."""


def frozen_paths() -> tuple[str, ...]:
    """Return the paths below spec that are pinned with the first attempt."""
    top = [camel(name) for name in FineTuneJobSpec.model_fields if name not in ("suspend", "run_policy")]
    policy = [f"runPolicy.{camel(name)}" for name in RunPolicySpec.model_fields]
    return tuple(path for path in (*top, *policy) if path not in MUTABLE)


def freeze(spec: Schema) -> dict[str, str]:
    """Return the rule that pinned fields stay as they are, from the first attempt or export on; `spec` has its defaults.

    One rule for all of them, since it looks at every write of a status too: there the specs are the same, which is
    compared first. The message names the first field that differs.
    """
    frozen = {path: _differs(_field(spec, path), path) for path in frozen_paths()}
    begun = "has(oldSelf.status) && (has(oldSelf.status.attempts) || has(oldSelf.status.export))"
    first = " : ".join(f"({differs}) ? 'spec.{path}'" for path, differs in frozen.items())
    return {
        "rule": f"self.spec == oldSelf.spec || !({begun}) || !({' || '.join(frozen.values())})",
        "message": f"spec{FROZEN_MESSAGE}",
        "messageExpression": f"({first} : 'spec') + {quoted(FROZEN_MESSAGE)}",
        "fieldPath": ".spec",
        "reason": "FieldValueForbidden",
    }


def _field(spec: Schema, path: str) -> Schema:
    for name in path.split("."):
        spec = spec["properties"][name]
    return spec


def _differs(field: Schema, path: str) -> str:
    """Return in CEL: a field is not as it was. An absent one is its default; where there is none, adding and removing are changes."""
    now, before = f"self.spec.{path}", f"oldSelf.spec.{path}"
    if "properties" not in field:
        absent = literal(field["default"]) if "default" in field else ABSENT[field["type"]]
        return f"{value_or(now, absent)} != {value_or(before, absent)}"
    below = [_differs(sub, f"{path}.{name}") for name, sub in field["properties"].items()]
    told_by_a_field = "default" in field or field.get("required")
    return " || ".join(below if told_by_a_field else [f"{is_there(now)} != {is_there(before)}", *below])
