"""The generated parts of the chart: the table of values, and what helm's schema says about a GPUPool."""

import pytest
from finetune_operator.cli.generate_chart import BEGIN, END, Value, closed, documented, with_values

VALUES = """# About the file.

image:
  # Name, without
  # a tag.
  repository: here/operator
# Address ranges
# and ports.
server:
  ports: [443]
  nested: {a: 1}
# How many.
replicas: 1
"""


def test_comments_become_descriptions():
    """A comment of a map describes all that is in it; a comment above an empty line describes nothing."""
    assert documented(VALUES) == [
        Value(path="image.repository", default="here/operator", description="Name, without a tag."),
        Value(path="server", default={"ports": [443], "nested": {"a": 1}}, description="Address ranges and ports."),
        Value(path="replicas", default=1, description="How many."),
    ]


def test_a_value_without_a_comment_is_refused():
    """It would be missing from the README in silence."""
    with pytest.raises(ValueError, match=r"^values\.yaml has no comment for image\.tag, bare$"):
        documented(VALUES.replace("image:\n", 'image:\n  tag: ""\n') + "\nbare: {}\n")


def test_the_table_stands_between_its_marks():
    """All else of the README is written by hand and stays."""
    text = with_values(
        f"before\n{BEGIN}old\n{END}after\n", [Value(path="a.b", default=[], description="What it does.")]
    )

    assert text == (
        f"before\n{BEGIN}\n| value | default | what it does |\n|---|---|---|\n| `a.b` | `[]` | What it does. |\n\n{END}after\n"
    )


def test_lost_marks_are_said():
    """Without them there is no place for the table."""
    with pytest.raises(ValueError, match=r"README\.md is missing the line <!-- values: generated"):
        with_values("before\n", [])


def test_helm_refuses_unknown_fields_of_a_pool():
    """CEL and formats are the API server's; names and types are checked by helm."""
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "format": "int64"}},
        "x-kubernetes-validations": [],
    }

    assert closed(schema) == {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "additionalProperties": False,
    }
