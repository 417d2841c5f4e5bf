"""From models to CRDs: the rewriting of schemas, the rules' places, the files."""

import shutil
from pathlib import Path

import pytest
import yaml
from finetune_operator.api.cel import VALIDATIONS, Bounds, decimal, matching, not_matching, quoted
from finetune_operator.api.crd import as_observed, job_crd, pool_crd
from finetune_operator.api.freeze import MUTABLE, frozen_paths
from finetune_operator.api.structural import to_structural
from finetune_operator.cli.generate import OutOfDate, command
from finetune_operator.cli.generate_chart import BEGIN, CHART, END
from finetune_operator.cli.generate_crds import HEADER, chart_template, files
from finetune_operator.cli.generate_docs import doc_pages

from tests.refusals import REPOSITORY


def test_references_are_inlined_and_the_fields_words_win():
    """CRDs have no references."""
    part = {"type": "object", "title": "Part", "description": "Type.", "properties": {"a": {"type": "string"}}}
    field = {"$ref": "#/$defs/Part", "description": "Field\n  of  two lines."}
    schema = {"$defs": {"Part": part}, "type": "object", "properties": {"part": field}}

    assert to_structural(schema) == {
        "type": "object",
        "properties": {
            "part": {"type": "object", "description": "Field of two lines.", "properties": {"a": {"type": "string"}}}
        },
    }


def test_an_optional_value_is_an_absent_one():
    """anyOf with null is refused by API servers."""
    schema = {"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}], "default": None, "title": "X"}

    assert to_structural(schema) == {"type": "string", "maxLength": 3}


def test_a_real_union_fails_the_build():
    """Structural schemas have none."""
    with pytest.raises(ValueError, match="too many values to unpack"):
        to_structural({"anyOf": [{"type": "string"}, {"type": "integer"}]})


def test_a_default_struct_is_written_without_nulls():
    """The API server checks the default itself against the rules."""
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "default": {"a": "x", "b": None, "c": {"d": None}},
    }

    assert to_structural(schema)["default"] == {"a": "x", "c": {}}


def test_a_constant_is_an_enum():
    """`const` came with a later JSON Schema."""
    assert to_structural({"const": "USD", "type": "string"}) == {"type": "string", "enum": ["USD"]}


def test_status_has_neither_defaults_nor_rules():
    """It shows what was observed, and the operator's writes must not be refused for the user's sake. Only a status that nobody
    has written has a value.
    """
    status = job_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]

    assert status["default"] == {"observedGeneration": 0}
    assert "default" not in str(list(_keys(status["properties"])))
    assert VALIDATIONS not in _keys(status)
    assert as_observed({"type": "string", "default": "x", VALIDATIONS: []}) == {"type": "string"}


def _keys(value):
    if isinstance(value, dict):
        yield from value
        for name, item in value.items():
            if name != "properties":
                yield from _keys(item)
            else:
                for sub in item.values():
                    yield from _keys(sub)
    if isinstance(value, list):
        for item in value:
            yield from _keys(item)


def test_everything_but_the_mutable_fields_is_frozen():
    """A new field is frozen unless MUTABLE names it."""
    assert frozen_paths() == (
        "model", "datasets", "chat", "objective", "method", "lora", "mergeOf", "training", "evaluation", "resources", "output",
        "checkpoint", "trackers", "serviceAccountName", "priorityClassName", "queueName", "managedBy", "podMetadata",
        "planOnly", "runPolicy.maxRetries",
    )  # fmt: skip
    assert MUTABLE == (
        "suspend",
        "runPolicy.budget",
        "runPolicy.activeDeadlineSeconds",
        "runPolicy.podRetentionSeconds",
        "runPolicy.ttlSecondsAfterFinished",
    )


def test_a_decimal_rule_says_the_same_twice():
    """In CEL and in Python, with an example of how to write it."""
    rule = decimal("^[0-9.]+$", Bounds(above=0, most=1), "0.5")

    assert (rule.cel, rule.message) == (
        "self.matches('^[0-9.]+$') && double(self) > 0.0 && double(self) <= 1.0",
        'must be a decimal in quotes, above 0 and at most 1, such as "0.5"',
    )
    assert [rule.holds(text) for text in ("0", "0.1", "1", "1.1", "x")] == [False, True, True, False, False]


def test_a_pattern_ends_where_the_text_ends():
    """Python's $ would let a last newline through, RE2's does not."""
    assert not matching("^[a-z]+$", "m").holds("abc\n")
    assert not_matching("^[a-z]+$", "m").holds("abc\n")


def test_a_cel_literal_is_escaped():
    """A quote in a pattern must not end the literal."""
    assert quoted("a'b\\c") == "'a\\'b\\\\c'"


def test_the_generated_files_are_up_to_date():
    """`make generate` was run after the last change of a model."""
    assert [
        str(path) for path, text in (files() | doc_pages()).items() if (REPOSITORY / path).read_text() != text
    ] == []


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository without generated files; of the chart, those that are partly written by hand."""
    chart = tmp_path / CHART
    chart.mkdir(parents=True)
    for name in ("values.yaml", "values.schema.json"):
        shutil.copy(REPOSITORY / CHART / name, chart)
    (chart / "README.md").write_text(f"By hand.\n{BEGIN}{END}")
    return tmp_path


def test_generating_twice_changes_nothing(repository, capsys):
    """The first run writes every file but the schema, which is up to date, the second none."""
    command(directory=repository)
    first = capsys.readouterr().out
    command(directory=repository)
    command(check=True, directory=repository)

    assert (len(first.splitlines()), capsys.readouterr().out) == (20, "")


@pytest.mark.parametrize(
    "stale",
    [
        "docs/api.md",
        "docs/reference/reasons.md",
        "kustomize/gpupools.yaml",
        f"{CHART}/values.schema.json",
        f"{CHART}/README.md",
    ],
)
def test_a_check_names_what_is_out_of_date(repository, stale):
    """CI says which file, and the command that repairs it."""
    command(directory=repository)
    text = (repository / stale).read_text()
    (repository / stale).write_text(
        text.replace("maxNodes", "mostNodes").replace("Operator image", "Image").replace("# Reasons", "# Causes")
    )

    with pytest.raises(OutOfDate) as refusal:
        command(check=True, directory=repository)
    assert str(refusal.value) == f"out of date: {repository / stale}; run `make generate`"


def test_gitops_tools_keep_the_crds_of_the_kustomize_base():
    """The same when an Application or a Kustomization is deleted."""
    for name in ("finetunejobs", "gpupools"):
        assert yaml.safe_load((REPOSITORY / f"kustomize/{name}.yaml").read_text())["metadata"]["annotations"] == {
            "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
            "kustomize.toolkit.fluxcd.io/prune": "disabled",
        }


def test_the_chart_keeps_its_crds():
    """Uninstalling a release must not delete everybody's jobs."""
    beginning = """{{- if .Values.crds.enabled }}
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: gpupools.finetune.dev
  {{- if .Values.crds.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
spec:
"""
    text = chart_template(pool_crd())

    assert text[: len(beginning)] == beginning
    assert text.endswith("{{- end }}\n")


def test_generated_files_say_so():
    """An edit by hand would be lost."""
    assert all(text.startswith((HEADER, "<!-- " + HEADER[2:-1])) for text in files().values())
