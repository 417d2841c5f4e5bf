"""Commands without a cluster refuse what the API server refuses; test_api_refusals.py has its words for this table."""

import json

import pytest
from finetune_operator.api.job_rules import STRUCT_RULES
from finetune_operator.cli.manifest_file import ManifestInvalid, parse_job, parse_pools

from tests.refusals import GOOD_JOB, GOOD_POOL, changed, own_examples, refusals


@pytest.mark.parametrize("refusal", refusals(), ids=lambda refusal: refusal.finetune[:60])
def test_a_bad_manifest_is_refused_in_words(refusal):
    """The whole text that `finetune plan -f` prints."""
    parse = parse_job if refusal.manifest["kind"] == "FineTuneJob" else parse_pools

    with pytest.raises(ManifestInvalid) as caught:
        parse(json.dumps(refusal.manifest))

    assert refusal.finetune == str(caught.value)


def test_the_table_was_found():
    """An emptied table must fail the suite."""
    assert len(refusals()) > 100


def test_every_rule_between_fields_is_in_the_table():
    """A rule whose message nobody has read is not finished."""
    said = {refusal.finetune.split(": ", 1)[1] for refusal in refusals()}
    rules = [rule.message for rules in STRUCT_RULES.values() for rule in rules]

    assert [message for message in rules if message not in said] == []


@pytest.mark.parametrize("example", own_examples(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_example_is_accepted(example):
    """Every manifest that we show is one that works."""
    text = example.read_text()
    parsed = parse_pools(text) if "kind: GPUPool" in text else (parse_job(text),)

    assert len(parsed) >= 1


def test_the_examples_were_found():
    """Seven jobs and three pools, at least."""
    assert len(own_examples()) >= 10


def test_the_good_manifests_are_good():
    """Otherwise every refusal above would be for nothing."""
    assert (parse_job(json.dumps(GOOD_JOB)).name, parse_job(json.dumps(GOOD_JOB)).namespace) == ("good", "default")
    assert [pool.key for pool in parse_pools(json.dumps(GOOD_POOL))] == ["good"]


def test_all_violations_are_told_at_once():
    """A user corrects a file once, not once per error."""
    manifest = changed(
        GOOD_JOB, {"metadata.name": "No", "spec.training": {"epochs": 1, "maxSteps": 1}, "spec.lora.targets": "custom"}
    )

    with pytest.raises(ManifestInvalid) as caught:
        parse_job(json.dumps(manifest))

    assert [violation.path for violation in caught.value.violations] == [
        "metadata.name",
        "spec.lora.targetModules",
        "spec.training.maxSteps",
    ]


def test_a_spec_has_a_largest_size():
    """Sixteen data sets with the longest of everything do not fit the annotation they travel in."""
    dataset = {
        "source": "s3://bucket/" + "x" * 1000,
        "split": "train",
        "format": "text",
        "columns": {"text": "t" * 128},
        "credentials": {"secretName": "c" * 253},
    }
    manifest = changed(
        GOOD_JOB, {"spec.datasets": [dataset] * 16, "spec.chat.systemPrompt": "s" * 4096,
                   "spec.evaluation.samples.prompts": ["p" * 1024] * 8}
    )  # fmt: skip

    with pytest.raises(ManifestInvalid) as caught:
        parse_job(json.dumps(manifest))

    assert (
        str(caught.value)
        == "spec: is 37,128 bytes of JSON, the limit is 32,768: shorten the prompts or use fewer datasets"
    )
