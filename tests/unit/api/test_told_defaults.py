"""Defaults in descriptions: what is told, and how rules read a field that is not there."""

import pytest
from finetune_operator.api.cel import VALIDATIONS
from finetune_operator.api.crd import crds, job_crd
from finetune_operator.api.told_defaults import reckoning, without_defaults, without_entry_defaults

COUNT = {"type": "integer", "description": "How many.", "default": 3}
STRUCT = {
    "type": "object",
    "properties": {
        "mode": {"type": "string", "default": "auto"},
        "inner": {"type": "object", "default": {}, "properties": {"name": {"type": "string"}, "count": COUNT}},
        "other": {"type": "object", "properties": {"count": COUNT}},
    },
}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("self.mode == 'x'", "(self.?mode.hasValue() ? self.mode : 'auto') == 'x'"),
        ("self.mode.matches('^x')", "(self.?mode.hasValue() ? self.mode : 'auto').matches('^x')"),
        ("self.inner.count > 1", "(self.?inner.?count.hasValue() ? self.inner.count : 3) > 1"),
        ("has(self.inner.name)", "self.?inner.?name.hasValue()"),
        ("!has(self.other) || self.other.count > 1",
         "!has(self.other) || (self.?other.?count.hasValue() ? self.other.count : 3) > 1"),
        ("has(self.inner.name) && self.inner.name == 'x'", "self.?inner.?name.hasValue() && self.inner.name == 'x'"),
        ("self.matches('^x') && yourself.mode", "self.matches('^x') && yourself.mode"),
    ],
)  # fmt: skip
def test_a_rule_reckons_with_absence(written: str, expected: str):
    """A field with a default reads as that; has() looks through structs that need not be there; all else stays."""
    assert reckoning(written, STRUCT) == expected


@pytest.mark.parametrize(
    ("default", "description"),
    [
        (3, "What. Default: 3."),
        ("a", 'What. Default: "a".'),
        ([], "What. Default: none."),
        (False, "What. Default: false."),
    ],
)
def test_a_description_tells_the_default(default: object, description: str):
    """As JSON, so that text can be told from a number."""
    field = {"type": "string", "description": "What.", "default": default}

    assert without_defaults({"properties": {"x": field}})["properties"]["x"] == {
        "type": "string",
        "description": description,
    }


def test_a_description_with_words_of_its_own_keeps_them():
    """An empty text by default means something: the words say what."""
    field = {"type": "string", "description": "What. Default: the usual.", "default": ""}

    assert (
        without_defaults({"properties": {"x": field}})["properties"]["x"]["description"] == "What. Default: the usual."
    )


def test_lists_alone_can_be_without_defaults():
    """Pools and policies keep theirs."""
    schema = {"properties": {"x": COUNT, "list": {"items": {"properties": {"x": COUNT}}}}}

    assert without_entry_defaults(schema) == {
        "properties": {
            "x": COUNT,
            "list": {"items": {"properties": {"x": {"type": "integer", "description": "How many. Default: 3."}}}},
        }
    }


def test_the_spec_of_a_job_has_no_default():
    """What is stored is what was written."""

    def defaults(schema: dict, path: str) -> list[str]:
        found = [path] if "default" in schema else []
        for name, field in schema.get("properties", {}).items():
            found += defaults(field, f"{path}.{name}")
        return found + (defaults(schema["items"], f"{path}[]") if "items" in schema else [])

    spec = job_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]

    assert defaults(spec, "spec") == []
    assert spec["properties"]["lora"]["properties"]["rank"]["description"].endswith(" Default: 16.")
    assert "self.?experts.hasValue()" in spec["properties"]["lora"][VALIDATIONS][4]["rule"]


def test_every_description_tells_at_most_one_default():
    """Words in the model and those that are added do not say it twice."""

    def texts(schema: dict) -> list[str]:
        below = [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]
        return [schema.get("description", ""), *(text for each in below for text in texts(each))]

    assert [
        text
        for crd in crds()
        for text in texts(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
        if text.count("Default:") > 1
    ] == []
