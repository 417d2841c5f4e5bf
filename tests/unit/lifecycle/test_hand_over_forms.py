"""A Pod that has published a model, or a merged adapter, and fails at a form of it: what is published is not called lost."""

from dataclasses import replace

from finetune_contract import ExportConfig

from tests.unit.lifecycle.lifecycle_builders import a_failure, published
from tests.unit.lifecycle.test_hand_over import MODEL, made, publishing, told
from tests.unit.lifecycle.test_merging import merging

FORMS = {"destination": "s3://team-a/out", "exports": ["gguf-q8_0"]}
REFUSED = "llama.cpp's converter refused the model"


def test_the_job_says_that_its_model_is_published():
    """The user has the model, and is told which form is missing."""
    failed = replace(a_failure("ExportFailed", REFUSED), artifacts=(MODEL,))
    world = publishing(output=FORMS).end("bot-export-0", 87, failed).settle()

    assert world.condition("Succeeded") == (
        "False", "ExportFailed",
        f"gguf-q8_0 could not be made: {REFUSED}. The result is published at s3://team-a/out/model; once the cause is corrected, delete "
        "the job and apply it again: nothing is trained again",
    )  # fmt: skip
    assert world.status.adapter_uri == "s3://team-a/out/model"


def test_a_pod_that_is_killed_at_a_form_has_published():
    """It wrote down what was there before it ran out of memory; the next one makes the form, with more."""
    world = publishing(output=FORMS)
    world.end("bot-export-0", 137, made(), terminated_reason="OOMKilled").settle()
    said = (world.status.adapter_uri, world.condition("Reconciling")[1:])
    world.later(10).settle()

    assert said == (
        "s3://team-a/out/model",
        (
            "BackOff",
            "the export failed (HostOutOfMemory: Pod bot-export-0 was killed because it reached its memory limit) and is retried at "
            "2026-01-31T12:10:10Z",
        ),
    )
    asked = told(world, "bot-export-1", ExportConfig)
    assert (asked.handed_over_by, asked.exports) == (None, ("gguf-q8_0",))


def test_adapters_that_were_merged_are_published_whatever_becomes_of_their_forms():
    """The same Pod, the same mistake: it was called MergeFailed."""
    failed = replace(a_failure("ExportFailed", REFUSED), artifacts=published().artifacts)
    world = merging(output=FORMS)
    world.run("bot-export-0").end("bot-export-0", 87, failed).settle()

    assert world.condition("Succeeded")[1] == "ExportFailed"
    assert world.status.adapter_uri == published().artifacts[0].uri
