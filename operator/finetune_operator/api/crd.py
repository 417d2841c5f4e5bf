"""The CustomResourceDefinitions, built from the models; cli/generate.py writes them, local/ applies them."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from finetune_operator.api.cel import VALIDATIONS, Rule
from finetune_operator.api.descriptions import described_schema
from finetune_operator.api.fewer_rules import with_fewer_rules
from finetune_operator.api.fields import Model
from finetune_operator.api.freeze import freeze
from finetune_operator.api.group import (
    GROUP,
    JOB_KIND,
    JOB_PLURAL,
    PLAN_KIND,
    PLAN_PLURAL,
    POLICY_KIND,
    POLICY_PLURAL,
    POOL_KIND,
    POOL_PLURAL,
    VERSION,
)
from finetune_operator.api.job_rules import STRUCT_RULES, name_rule
from finetune_operator.api.pinned import PARTS, FineTunePlan
from finetune_operator.api.policies import POLICY_NAME, FineTunePolicySpec, FineTunePolicyStatus
from finetune_operator.api.pools import GPUPoolSpec, GPUPoolStatus
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.api.status import ReportedStatus
from finetune_operator.api.structural import Schema, to_structural
from finetune_operator.api.told_defaults import without_defaults, without_entry_defaults

JOB_DESCRIPTION = (
    "One fine-tuning run: takes a base model, data and a destination, and publishes an adapter or a tuned model."
    " Once the first attempt has started, only suspend, runPolicy.budget, runPolicy.activeDeadlineSeconds and the"
    " retention fields can be changed."
)
POOL_DESCRIPTION = (
    "GPUs of one kind that the cluster has or can provision, and what they cost. The planner chooses among the"
    " pools, which the platform team creates."
)
POLICY_DESCRIPTION = (
    "What the jobs of a namespace may do and spend. The platform team creates it; there is one in a namespace, named"
    " default."
)
PLAN_DESCRIPTION = (
    "What the operator decided about a FineTuneJob before it created anything, by which its Pods run: the findings of"
    " preflight, the spec with every default filled in, and the plan. The operator creates it and nothing changes it: a"
    " job that is planned again gets another one, which its status.planName names. It is deleted with its job."
)

JOB_COLUMNS = (
    ("Phase", "string", ".status.phase", 0),
    ("Reason", "string", '.status.conditions[?(@.type=="Succeeded")].reason', 0),
    ("Model", "string", ".spec.model.source", 0),
    ("Plan", "string", ".status.plan.summary", 0),
    ("Progress", "integer", ".status.progress.percent", 0),
    ("Loss", "string", ".status.progress.loss", 0),
    ("Cost", "string", ".status.cost.costUSD", 0),
    ("Eval", "string", ".status.progress.evalLoss", 1),
    ("Tokens/s", "string", ".status.progress.tokensPerSecond", 1),
    ("MFU", "string", ".status.progress.modelFlopUtilisation", 1),
    ("Adapter", "string", ".status.adapterURI", 1),
    ("Age", "date", ".metadata.creationTimestamp", 0),
)
"""(name, type, path, priority): those of priority 1 are shown by `kubectl get -o wide`."""

POOL_COLUMNS = (
    ("GPU", "string", ".spec.gpuType", 0),
    ("Nodes", "integer", ".status.nodes", 0),
    ("GPUs", "integer", ".status.gpus", 0),
    ("In-Use", "integer", ".status.gpusInUseByJobs", 0),
    ("Price", "string", ".spec.pricePerGPUHourUSD", 0),
    ("Capacity", "string", ".spec.capacity", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
)

POLICY_COLUMNS = (
    ("Jobs", "integer", ".status.runningJobs", 0),
    ("Max-Jobs", "integer", ".spec.limits.concurrentJobs", 0),
    ("GPUs", "integer", ".status.gpusInUse", 0),
    ("Max-GPUs", "integer", ".spec.limits.gpus", 0),
    ("Month", "string", ".status.month", 0),
    ("Spent", "string", ".status.spentUSD", 0),
    ("Max-Cost", "string", ".spec.limits.costPerMonthUSD", 0),
    ("Contact", "string", ".spec.contact", 1),
    ("Age", "date", ".metadata.creationTimestamp", 0),
)

PLAN_COLUMNS = (
    ("Job", "string", ".metadata.ownerReferences[0].name", 0),
    ("Plan", "string", ".plan.summary", 0),
    ("Pool", "string", ".plan.pool.name", 0),
    ("Seconds", "integer", ".plan.estimate.seconds", 0),
    ("GPU-Hours", "string", ".plan.estimate.gpuHours", 0),
    ("Cost", "string", ".plan.estimate.costUSD", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
)

STATUS = {
    # our operator is the only one that writes it, and always as a whole: who wrote which part would be half of the object
    "x-kubernetes-map-type": "atomic",
    # until it has written: a job without conditions must not be taken for one that is done
    "default": {"observedGeneration": 0},
}

WRITTEN_ONCE = {"x-kubernetes-map-type": "atomic"}
"""Who wrote which field of it would be as long as the object."""

UNCHANGING = {
    # not the object as a whole: labels and owners may change
    "rule": " && ".join(
        f"has(self.{part}) == has(oldSelf.{part}) && (!has(self.{part}) || self.{part} == oldSelf.{part})"
        for part in PARTS
    ),
    "message": "cannot be changed: it is the record that the Pods of its job run by",
}

OPAQUE = {"x-kubernetes-preserve-unknown-fields": True}
EARLIER = "Of jobs that were planned by an operator before FineTunePlans; later ones write it into the FineTunePlan that planName names."

TYPE_META = {
    "apiVersion": {"type": "string", "description": "API version of the object."},
    "kind": {"type": "string", "description": "Kind of the object."},
    "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},  # the name rule points at it
}


def crds() -> tuple[Schema, ...]:
    """Return the CustomResourceDefinitions of the project."""
    return tuple(served(crd) for crd in written())


def written() -> tuple[Schema, ...]:
    """Return the CustomResourceDefinitions with each rule by itself, as a reader wants them."""
    return job_crd(), plan_crd(), pool_crd(), policy_crd()


def served(crd: Schema) -> Schema:
    """Return a definition with as few rules as say the same."""
    (version,) = crd["spec"]["versions"]
    root = with_fewer_rules(version["schema"]["openAPIV3Schema"])
    return crd | {"spec": crd["spec"] | {"versions": [version | {"schema": {"openAPIV3Schema": root}}]}}


def job_crd() -> Schema:
    """Return the CustomResourceDefinition of FineTuneJob."""
    spec = spec_schema(FineTuneJobSpec)
    root = _root(JOB_DESCRIPTION, without_defaults(spec), ReportedStatus) | {VALIDATIONS: [name_rule(), freeze(spec)]}
    root["properties"]["status"] = with_earlier_parts(root["properties"]["status"])
    names = _names(JOB_KIND, JOB_PLURAL, ["ftj"])
    version = _version(root, JOB_COLUMNS) | {
        "selectableFields": [{"jsonPath": ".spec.model.source"}, {"jsonPath": ".status.phase"}]
    }
    return _crd(names, "Namespaced", version)


def plan_crd() -> Schema:
    """Return the CustomResourceDefinition of FineTunePlan."""
    fields = as_observed(to_structural(described_schema(FineTunePlan)))["properties"]
    parts = {name: fields[name] | WRITTEN_ONCE for name in PARTS}
    root = {"type": "object", "description": PLAN_DESCRIPTION, "properties": TYPE_META | parts}
    version = _version(root | {VALIDATIONS: [UNCHANGING]}, PLAN_COLUMNS)
    del version["subresources"]
    return _crd(_names(PLAN_KIND, PLAN_PLURAL, ["ftpl"]), "Namespaced", version)


def pool_crd() -> Schema:
    """Return the CustomResourceDefinition of GPUPool."""
    root = _root(POOL_DESCRIPTION, without_entry_defaults(spec_schema(GPUPoolSpec)), GPUPoolStatus)
    names = _names(POOL_KIND, POOL_PLURAL, [])
    return _crd(names, "Cluster", _version(root, POOL_COLUMNS))


def policy_crd() -> Schema:
    """Return the CustomResourceDefinition of FineTunePolicy."""
    only = {
        "rule": f"self.metadata.name == '{POLICY_NAME}'",
        "message": f"must be {POLICY_NAME}: a namespace has one FineTunePolicy",
        "fieldPath": ".metadata.name",
    }
    spec = without_entry_defaults(spec_schema(FineTunePolicySpec))
    root = _root(POLICY_DESCRIPTION, spec, FineTunePolicyStatus) | {VALIDATIONS: [only]}
    names = _names(POLICY_KIND, POLICY_PLURAL, ["ftp"])
    return _crd(names, "Namespaced", _version(root, POLICY_COLUMNS))


@functools.cache
def spec_schema(kind: type[Model]) -> Schema:
    """Return the schema of a spec with the rules of its structs and all defaults."""
    return to_structural(with_rules(described_schema(kind), STRUCT_RULES))


def with_rules(schema: Schema, rules: Mapping[type[Model], Sequence[Rule]]) -> Schema:
    """Return a pydantic JSON schema with each struct's rules put on it."""
    by_name = {kind.__name__: [rule.to_schema() for rule in its] for kind, its in rules.items()}
    defs = {n: sub | ({VALIDATIONS: by_name[n]} if n in by_name else {}) for n, sub in schema.get("$defs", {}).items()}
    own = {VALIDATIONS: by_name[schema["title"]]} if schema["title"] in by_name else {}
    return schema | own | {"$defs": defs}


def as_observed(schema: Schema) -> Schema:
    """Return the schema of a status: it holds what was written and no defaults, and the operator needs no rules."""
    out = {key: value for key, value in schema.items() if key not in ("default", VALIDATIONS)}
    if "properties" in out:
        out["properties"] = {name: as_observed(sub) for name, sub in out["properties"].items()}
    if "items" in out:
        out["items"] = as_observed(out["items"])
    return out


def with_earlier_parts(status: Schema) -> Schema:
    """Return the schema of a job's status that keeps what operators before FineTunePlans wrote there: unknown fields are dropped."""
    fields = dict(status["properties"])
    plan = fields["plan"] | OPAQUE
    inner = {name: each | OPAQUE if "properties" in each else each for name, each in plan["properties"].items()}
    earlier = {name: {"type": "object", "description": EARLIER} | OPAQUE for name in PARTS if name not in fields}
    return status | {"properties": fields | earlier | {"plan": plan | {"properties": inner}}}


def _root(description: str, spec: Schema, status: type[Model]) -> Schema:
    parts = {"spec": spec, "status": as_observed(_status_schema(status)) | STATUS}
    return {"type": "object", "description": description, "required": ["spec"], "properties": TYPE_META | parts}


@functools.cache
def _status_schema(kind: type[Model]) -> Schema:
    return to_structural(described_schema(kind))


def _names(kind: str, plural: str, short: list[str]) -> Schema:
    names = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()}
    return names | {"categories": ["finetune"]} | ({"shortNames": short} if short else {})


def _version(root: Schema, columns: Sequence[tuple[str, str, str, int]]) -> Schema:
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [_column(*column) for column in columns],
        "schema": {"openAPIV3Schema": root},
    }


def _column(name: str, kind: str, path: str, priority: int) -> dict[str, Any]:
    return {"name": name, "type": kind, "jsonPath": path} | ({"priority": priority} if priority else {})


def _crd(names: Schema, scope: str, version: Schema) -> Schema:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names['plural']}.{GROUP}"},
        "spec": {"group": GROUP, "names": names, "scope": scope, "versions": [version]},
    }
