"""The generated CRDs keep the conventions of Kubernetes APIs, and every convention bites."""

import copy
import json

import pytest
from finetune_operator.api.crd import crds, job_crd

from tests.unit.api.conventions import BOOLEANS, CHECKS, FREE_MAPS, PHASES, fields, lint


@pytest.mark.parametrize("crd", crds(), ids=lambda crd: crd["spec"]["names"]["kind"])
def test_the_crds_keep_every_convention(crd):
    """One list of all problems, so that a new field sees all of its own at once."""
    assert lint(crd) == []


def test_the_fields_were_found():
    """A moved schema must fail the suite, not empty it."""
    root = job_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]

    assert len(list(fields(root))) > 200


def test_exceptions_are_in_use():
    """An exception that nothing needs any more is deleted."""
    paths = [path for crd in crds() for path, _ in fields(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])]

    assert [name for name in BOOLEANS if not any(path.endswith(f".{name}") for path in paths)] == []
    assert [path for path in [*PHASES, *FREE_MAPS] if path not in paths] == []


def broken(**changes):
    """Return a CRD with one field `spec.wrong` that keeps every convention except where `changes` say otherwise."""
    good = {"type": "string", "maxLength": 10, "description": "A sentence."}
    field = {key: value for key, value in (good | changes).items() if value is not None}
    status = {"type": "object", "description": "What is.", "properties": {"right": good}}
    spec = {"type": "object", "description": "What should be.", "properties": {"wrong": field}}
    root = {"type": "object", "description": "A kind.", "properties": {"spec": spec, "status": status}}
    return {"spec": {"versions": [{"schema": {"openAPIV3Schema": root}, "subresources": {"status": {}}}]}}


KEY = {"type": "string", "maxLength": 5, "description": "Key."}
ITEM = {"type": "object", "description": "An item.", "properties": {"key": KEY}}
STRUCT = {"type": "object", "properties": ITEM["properties"]}
LIST = {"type": "array", "maxItems": 3, "items": ITEM}
BROKEN = [
    (broken(type="number"), "spec.wrong: is a float; use a decimal string"),
    (broken(type="boolean"), "spec.wrong: is a boolean; use an enum, or say in BOOLEANS why not"),
    (broken(maxLength=None), "spec.wrong: has no maxLength"),
    (broken(type="integer", minimum=0), "spec.wrong: has no maximum"),
    (broken(type="integer", maximum=3), "spec.wrong: has no minimum"),
    (broken(**LIST | {"maxItems": None}, **{"x-kubernetes-list-type": "atomic"}), "spec.wrong: has no maxItems"),
    (broken(**LIST), "spec.wrong: has no x-kubernetes-list-type"),
    (broken(**LIST, **{"x-kubernetes-list-type": "set"}), "spec.wrong: is a set of objects; use map or atomic"),
    (broken(**LIST, **{"x-kubernetes-list-type": "map"}), "spec.wrong: is a map list without keys"),
    (
        broken(**LIST, **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["key"]}),
        "spec.wrong: its key key is not required",
    ),
    (broken(description=None), "spec.wrong: has no description"),
    (broken(description="no sentence"), "spec.wrong: its description is no sentence: 'no sentence'"),
    (broken(format="duration"), "spec.wrong: is a duration in a string; use an integer named ...Seconds"),
    (broken(nullable=True), "spec.wrong: is nullable; leave it out instead"),
    (broken(**STRUCT, additionalProperties={}), "spec.wrong: is a free map; use a list of structs"),
    (broken(type="object"), "spec.wrong: is an object without fields"),
    (broken(**STRUCT, required=["other"]), "spec.wrong: requires other, which it does not have"),
    (
        broken(**{"x-kubernetes-validations": [{"rule": "true", "message": "no."}]}),
        "spec.wrong: the message of a rule is missing, too short, or ends with a full stop: 'no.'",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("crd", "problem"), BROKEN, ids=lambda value: value if isinstance(value, str) else "")
def test_every_convention_bites(crd, problem):
    """A schema broken on purpose is refused with its path."""
    assert [problem] == lint(crd)


def named(name, field):
    """Return a broken CRD whose one field has another name."""
    crd = broken(**field)
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"] = {name: spec["properties"].pop("wrong")}
    return crd


@pytest.mark.parametrize(
    ("name", "field", "problem"),
    [
        ("snake_case", {}, "spec.snake_case: is not camelCase"),
        ("phase", {}, "spec.phase: is a phase; use a condition"),
        ("waitTimeout", {}, "spec.waitTimeout: is a duration in a string; use an integer named ...Seconds"),
        ("timeout", {"type": "integer", "enum": [1]}, "spec.timeout: has no unit in its name; call it ...Seconds"),
        (
            "conditions",
            LIST | {"x-kubernetes-list-type": "atomic"},
            "spec.conditions: is not keyed by type",
        ),
    ],
)  # fmt: skip
def test_names_are_judged(name, field, problem):
    """Some conventions are about names."""
    assert problem == lint(named(name, field))[0]


def test_conditions_need_the_shape_of_conditions():
    """A list keyed by type is no condition list yet."""
    assert "spec.conditions: has no lastTransitionTime, message, observedGeneration, reason, status, type" in lint(
        named("conditions", LIST | {"x-kubernetes-list-type": "atomic"})
    )


def test_a_required_field_with_a_default_is_refused():
    """The default would never apply."""
    crd = broken(default="x")
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["required"] = ["wrong"]

    assert lint(crd) == ["spec.wrong: is required and has a default"]


def test_a_status_without_subresource_is_refused():
    """Without it a user could write status, and a status write would raise the generation."""
    crd = copy.deepcopy(job_crd())
    del crd["spec"]["versions"][0]["subresources"]

    assert lint(crd) == ["status: has no subresource"]


def test_a_kind_without_description_is_refused():
    """kubectl explain starts with it."""
    crd = broken()
    del crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"]

    assert lint(crd) == ["the kind has no description"]


def test_every_check_has_a_broken_schema():
    """Each check refuses something above; this counts them so that a new check comes with its proof."""
    assert len(CHECKS) == 12


@pytest.mark.parametrize("crd", crds(), ids=lambda crd: crd["spec"]["names"]["kind"])
def test_a_crd_stays_small(crd):
    """Argo CD and kubectl apply write the whole object into an annotation of at most 256 KiB."""
    assert len(json.dumps(crd)) < 240_000
