"""The claim at the output: one run owns a destination, and what is finished there is neither overwritten nor trained again."""

import json
from dataclasses import replace

from finetune_contract import Artifact
from finetune_contract.wire import to_wire
from finetune_trainer.preflight.claim import Claim
from finetune_trainer.preflight.examine import examine

from tests.trainer.data_inputs import at, preflight_refusal


def test_a_finished_run_is_not_trained_again(job, tmp_path, workspaces):
    """Its artifacts come from the manifest, and another job of the same run gets them too."""
    digest = examine(job, workspaces()).preflight.run_digest
    artifact = Artifact(kind="adapter", uri="file:///out/adapter", digest="sha256:a", size_bytes=3)
    manifest = {"runDigest": digest, "namespace": "team-a", "name": "bot", "artifacts": [to_wire(artifact)]}
    (tmp_path / "out" / "finetune-manifest.json").write_text(json.dumps(manifest))

    outcome = examine(replace(job, uid="uid-2", name="again"), workspaces())

    assert (outcome.outcome, outcome.reason, outcome.artifacts) == ("Succeeded", "AlreadyPublished", (artifact,))
    assert outcome.message == f"this run is already complete at {job.output.uri}; nothing is trained again"


def test_a_finished_output_of_another_run_is_occupied(job, tmp_path, workspaces):
    """It is never overwritten, not even by the same job after an edit."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "finetune-manifest.json").write_text(
        '{"runDigest": "sha256:other", "namespace": "b", "name": "c"}'
    )

    reason, message = preflight_refusal(job, workspaces())

    assert reason == "OutputOccupied"
    assert message.startswith(
        f"{job.output.uri} holds the result of another run (job b/c, sha256:other; this one is sha256:"
    )


def test_an_output_that_another_job_claimed_is_occupied(job, workspaces):
    """The message says who owns it."""
    examine(job, workspaces())

    assert preflight_refusal(replace(job, name="other", uid="uid-9"), workspaces()) == (
        "OutputOccupied",
        f"{job.output.uri} belongs to the job team-a/bot (uid uid-1, claimed): choose another output.destination, or remove "
        "finetune-run.json there if that job is gone",
    )


def test_a_claim_moves_with_an_edit_until_something_is_trained(job, tmp_path, workspaces):
    """A typo that preflight found is corrected in place; a run with checkpoints is not thrown away."""
    examine(job, workspaces())
    edited = replace(job, spec_digest="sha256:edited")

    digest = examine(edited, workspaces()).preflight.run_digest

    assert json.loads((tmp_path / "out" / "finetune-run.json").read_text())["runDigest"] == digest
    (tmp_path / "out" / ".checkpoints" / "attempt-0-step-5").mkdir()
    (tmp_path / "out" / ".checkpoints" / "attempt-0-step-5" / "COMPLETE").touch()
    reason, message = preflight_refusal(replace(job, spec_digest="sha256:third"), workspaces())
    assert (reason, message) == (
        "OutputOccupied",
        f"{job.output.uri} holds an unfinished run of this job with other settings or data ({digest[:19]}): choose another "
        "output.destination, or remove the checkpoints of that run",
    )


def test_a_recreated_job_takes_its_own_claim_over(job, tmp_path, workspaces):
    """GitOps deletes and creates: the name is the same, the uid is not."""
    digest = examine(job, workspaces()).preflight.run_digest

    examine(replace(job, uid="uid-2"), workspaces())

    claim = Claim(namespace="team-a", name="bot", uid="uid-2", run_digest=digest)
    assert json.loads((tmp_path / "out" / "finetune-run.json").read_text()) == to_wire(claim)


def test_a_folder_that_nobody_claimed_is_not_overwritten(job, tmp_path, workspaces):
    """Somebody put an adapter there by hand."""
    (tmp_path / "out" / "adapter").mkdir(parents=True)
    (tmp_path / "out" / "adapter" / "adapter_config.json").write_text("{}")

    assert preflight_refusal(job, workspaces()) == (
        "OutputOccupied",
        f"{job.output.uri} already has a folder adapter that no run has claimed: choose another output.destination, or move "
        "it away",
    )


def test_destinations_are_tried_by_writing(job, tmp_path, workspaces):
    """Output and checkpoints, each with its own remedy."""
    (tmp_path / "file").write_text("x")

    assert preflight_refusal(replace(job, output=at(tmp_path / "file")), workspaces()) == (
        "OutputNotWritable",
        f"the output file://{tmp_path}/file is not a folder: create it or correct spec.output.destination",
    )
    assert preflight_refusal(replace(job, checkpoint=at(tmp_path / "file")), workspaces()) == (
        "OutputNotWritable",
        f"the checkpoint destination file://{tmp_path}/file is not a folder: create it or correct spec.checkpoint.destination",
    )
