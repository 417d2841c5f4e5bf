"""The real API server refuses bad manifests in words that say what to do, and accepts every example."""

import json
import random

import pytest
import yaml
from finetune_operator.cli.manifest_file import ManifestInvalid, parse_job

from tests.cluster.client import FINETUNE, ApiError, Client
from tests.refusals import GOOD_JOB, GOOD_POOL, Manifest, changed, examples, own_examples, refusals, with_defaults

DRY = "dryRun=All&fieldValidation=Strict"
COLLECTIONS = {
    "FineTuneJob": f"{FINETUNE}/namespaces/default/finetunejobs?{DRY}",
    "FineTunePolicy": f"{FINETUNE}/namespaces/default/finetunepolicies?{DRY}",
    "GPUPool": f"{FINETUNE}/gpupools?{DRY}",
    "PersistentVolumeClaim": f"/api/v1/namespaces/default/persistentvolumeclaims?{DRY}",
}


def refusal(api: Client, manifest) -> str:
    """Return what the API server says about a bad manifest."""
    with pytest.raises(ApiError) as caught:
        api.create(COLLECTIONS[manifest["kind"]], manifest)
    return caught.value.message


@pytest.mark.parametrize("expected", refusals(), ids=lambda expected: expected.finetune[:60])
def test_a_bad_manifest_is_refused_in_words(api: Client, expected):
    """The whole message, as kubectl prints it."""
    assert expected.kubectl == refusal(api, expected.manifest)


@pytest.mark.parametrize(
    "expected",
    [
        each
        for each in refusals()
        if each.manifest["kind"] == "FineTuneJob" and with_defaults(each.manifest) is not None
    ],
    ids=lambda expected: expected.finetune[:60],
)
def test_a_default_that_is_written_out_changes_no_refusal(api: Client, expected):
    """Older definitions filled defaults in: the rules say the same of such objects."""
    assert expected.kubectl == refusal(api, with_defaults(expected.manifest))


@pytest.mark.parametrize("example", examples(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_example_is_accepted(api: Client, example):
    """With strict field validation: a misspelt field would be refused."""
    for manifest in yaml.safe_load_all(example.read_text()):
        manifest["metadata"].pop("namespace", None)
        answer = api.create(COLLECTIONS[manifest["kind"]], manifest)

        assert manifest["metadata"]["name"] == answer["metadata"]["name"]


def test_the_examples_were_found():
    """Seven jobs and three pools, at least."""
    assert len(own_examples()) >= 10


def test_an_unknown_field_is_refused_by_its_name(api: Client):
    """Strict validation is kubectl's default."""
    assert refusal(api, changed(GOOD_JOB, {"spec.training.learningrate": "2e-4"})) == (
        'FineTuneJob in version "v1alpha1" cannot be handled as a FineTuneJob: strict decoding error:'
        ' unknown field "spec.training.learningrate"'
    )


def test_several_mistakes_are_told_together(api: Client):
    """A user corrects a file once."""
    manifest = changed(GOOD_JOB, {"spec.training": {"epochs": 1, "maxSteps": 1}, "spec.lora.targets": "custom"})
    said = refusal(api, manifest)

    assert "targets custom requires targetModules: list the modules, such as q_proj and v_proj" in said
    assert "epochs and maxSteps are mutually exclusive: remove one of them" in said


def test_kubectl_prints_the_line_as_it_is(api: Client, control_plane):
    """What the table asserts is what stands in a terminal."""
    manifest = changed(GOOD_JOB, {"spec.training": {"epochs": 3, "maxSteps": 100}})
    answer = control_plane.kubectl("apply", "--dry-run=server", "-f", "-", given=manifest, check=False)

    assert (answer.returncode, answer.stderr) == (
        1,
        'The FineTuneJob "good" is invalid: spec.training.maxSteps: Invalid value: epochs and maxSteps are'
        " mutually exclusive: remove one of them\n",
    )


def test_kubectl_reads_an_unquoted_exponent_as_a_number(api: Client, control_plane, tmp_path):
    """The one message that we cannot write; the field's description and `finetune plan` carry the hint."""
    text = yaml.safe_dump(changed(GOOD_JOB, {"spec.training.learningRate": "RATE"})).replace("RATE", "2e-4")
    (tmp_path / "job.yaml").write_text(text)
    answer = control_plane.kubectl("apply", "--dry-run=server", "-f", str(tmp_path / "job.yaml"), check=False)

    assert answer.stderr == (
        'The FineTuneJob "good" is invalid: \n'
        '* spec.training.learningRate: Invalid value: "number": spec.training.learningRate in body must be of type'
        ' string: "number"\n'
        "* <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct"
        " the existing errors to complete validation\n"
    )


def test_the_good_manifests_are_accepted(api: Client):
    """Otherwise every refusal would be for nothing. A job is stored as it was written, a pool with its defaults."""
    job = api.create(COLLECTIONS["FineTuneJob"], GOOD_JOB)
    pool = api.create(COLLECTIONS["GPUPool"], GOOD_POOL)

    assert job["spec"] == GOOD_JOB["spec"]
    assert (pool["spec"]["resourceName"], pool["spec"]["provisioningSeconds"]) == ("nvidia.com/gpu", 1200)


PIECES = tuple("/ // :// .. . a A _ - @ ? * 0 5 00 e + hf: s3:".split())  # a list would be six lines
BLANKS = (" ", "\n", "\u00e9")


def mutated(good: str) -> list[str]:
    """Return sixty texts, each one insertion or deletion away from a good one; the same on every run."""
    chance = random.Random(good)
    places = [chance.randint(0, len(good)) for _ in range(60)]
    return [
        good[:place] + chance.choice(("", *PIECES, *BLANKS)) + good[place + chance.randint(0, 1) :] for place in places
    ]


@pytest.mark.parametrize(
    ("path", "good"),
    [
        ("spec.datasets.0.source", "s3://bucket/data/part-*.jsonl"),
        ("spec.model.source", "pvc://models/llama-8b"),
        ("spec.output.destination", "hf://org/adapter"),
        ("spec.lora.initialAdapter", "file:///home/me/adapter"),
        ("spec.training.learningRate", "2.5e-4"),
        ("spec.evaluation.fraction", "0.25"),
        ("spec.serviceAccountName", "trainer.a-1"),
    ],
)
def test_server_and_command_line_agree(api: Client, path: str, good: str):
    """RE2 and Python read the same patterns in the same way: whatever one accepts, the other does."""
    base = changed(GOOD_JOB, {"spec.checkpoint.destination": "s3://bucket/steps"})
    texts = mutated(good)
    offline = {text: accepted_offline(changed(base, {path: text})) for text in texts}

    assert {True, False} == set(offline.values())
    assert offline == {text: accepted(api, changed(base, {path: text})) for text in texts}


def accepted(api: Client, manifest: Manifest) -> bool:
    """Say whether the API server takes a manifest."""
    try:
        api.create(COLLECTIONS[manifest["kind"]], manifest)
    except ApiError:
        return False
    return True


def accepted_offline(manifest: Manifest) -> bool:
    """Say whether `finetune plan -f` takes it."""
    try:
        parse_job(json.dumps(manifest))
    except ManifestInvalid:
        return False
    return True
