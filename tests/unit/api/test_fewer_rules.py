"""Rules about one field are one rule: what a status write costs the API server grows with their number."""

from collections.abc import Iterator
from typing import Any

from finetune_operator.api.cel import VALIDATIONS, Rule
from finetune_operator.api.crd import job_crd, served
from finetune_operator.api.fewer_rules import ONE_OF_SEVERAL, with_fewer_rules

from tests.refusals import GOOD_JOB


def test_rules_about_one_field_are_one():
    """In the order of the fields; what is broken first is said, in its own words. A rule by itself stays as it is."""
    rules = [
        {"rule": "self.a > 1", "message": "is 'one'", "fieldPath": ".a"},
        {"rule": "self.b > 1", "message": "b is one", "fieldPath": ".b"},
        {"rule": "self.a < 9", "message": "is nine", "fieldPath": ".a"},
    ]
    said = {
        "rule": "self.a < 8",
        "message": "is eight",
        "fieldPath": ".a",
        "messageExpression": "'is ' + string(self.a)",
    }

    assert with_fewer_rules({VALIDATIONS: [*rules, said]})[VALIDATIONS] == [
        {
            "rule": "(self.a > 1) && (self.a < 9)",
            "message": ONE_OF_SEVERAL,
            "fieldPath": ".a",
            "messageExpression": "!(self.a > 1) ? 'is \\'one\\'' : 'is nine'",
        },
        rules[1],
        said,
    ]


def test_what_several_rules_ask_for_first_is_asked_for_once():
    """A field that is not there is looked for once. A rule whose first alternative is not whole by its text stays as it is."""
    texts = ("!has(self.a) || self.b == 1", "!has(self.a) || has(self.c) || self.d", "self.e.all(x, x || true)")
    (one,) = with_fewer_rules({VALIDATIONS: [{"rule": text, "message": "no"} for text in texts]})[VALIDATIONS]

    assert one["rule"] == "(!has(self.a) || ((self.b == 1) && (has(self.c) || self.d))) && (self.e.all(x, x || true))"


def test_two_fields_that_do_not_go_together_are_both_named():
    """By the API server; a file is told of the field alone."""
    rule = Rule(cel="!has(self.a)", message="is not for b", holds=lambda _: True, field="a", beside="b")

    assert rule.to_schema() == {"rule": "!has(self.a)", "message": "a: is not for b", "fieldPath": ".b"}


def test_rules_are_made_one_wherever_they_are():
    """In fields and in the entries of lists."""
    rules = [{"rule": f"self > {number}", "message": f"is {number}"} for number in range(2)]
    schema = {"properties": {"list": {"items": {VALIDATIONS: rules}}}}

    assert len(with_fewer_rules(schema)["properties"]["list"]["items"][VALIDATIONS]) == 1


def test_a_status_write_of_a_small_job_evaluates_few_rules():
    """Each costs some 20 microseconds of CPU time of the API server."""
    plain, lean = (list(evaluated(root_of(crd), GOOD_JOB)) for crd in (job_crd(), served(job_crd())))

    assert len(plain) > 70
    assert len(lean) < 25


def root_of(crd: dict[str, Any]) -> dict[str, Any]:
    root: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return root


def evaluated(schema: dict[str, Any], value: Any) -> Iterator[str]:
    """Yield the rules that the API server looks at, of an object as it is."""
    yield from (rule["rule"] for rule in schema.get(VALIDATIONS, ()))
    for name, below in value.items() if isinstance(value, dict) else ():
        yield from evaluated(schema.get("properties", {}).get(name, {}), below)
    for entry in value if isinstance(value, list) else ():
        yield from evaluated(schema["items"], entry)
