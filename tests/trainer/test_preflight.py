"""Preflight: what it reports and leaves behind, and that the same job is the same run."""

import json
from dataclasses import replace

from finetune_contract import Location, outcome_text
from finetune_trainer.preflight.examine import examine, run_digest

from tests.trainer.data_inputs import preflight_refusal, tokenizer

MODEL_CONFIG = {
    "architectures": "LlamaForCausalLM", "hidden_size": 8, "intermediate_size": 16, "max_position_embeddings": 512,
    "model_type": "llama", "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": 400,
}  # fmt: skip


def test_the_report_says_what_the_plan_rests_on(job, tmp_path, workspaces):
    """Whole outcome, its size, and what is left for the trainer and for people."""
    outcome = examine(job, workspaces())

    report = outcome.preflight
    assert report is not None
    assert (outcome.outcome, outcome.reason) == ("Succeeded", "Prepared")
    assert (report.examples, report.evaluation_examples, report.duplicates, report.sampled) == (80, 19, 1, False)
    assert report.model_config == MODEL_CONFIG
    assert report.model_bytes == (tmp_path / "model" / "model.safetensors").stat().st_size
    assert report.run_digest == run_digest("sha256:spec", report.model_revision, report.dataset_digest)
    assert len(outcome_text(outcome).encode()) < 4096
    left = sorted(
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()
    )
    name = report.dataset_digest[7:23]
    assert left == [
        f".checkpoints/prepared-{name}/evaluation.arrow",
        f".checkpoints/prepared-{name}/prepared.json",
        f".checkpoints/prepared-{name}/train.arrow",
        f".checkpoints/preview-{name}.txt",
        "finetune-run.json",
    ]
    claim = json.loads((tmp_path / "out" / "finetune-run.json").read_text())
    assert claim == {
        "namespace": "team-a", "name": "bot", "uid": "uid-1", "runDigest": report.run_digest, "state": "claimed"
    }  # fmt: skip


def test_the_same_job_is_the_same_run(job, workspaces):
    """A Pod that is run again finds the same digests, and its own claim does not stop it."""
    first, second = examine(job, workspaces()), examine(job, workspaces())

    assert first == second


def test_a_sequence_length_beyond_the_model_is_refused(job, workspaces):
    """Positions that the model never saw train nothing useful."""
    assert preflight_refusal(replace(job, sequence_length=1024), workspaces()) == (
        "InvalidSpec",
        "training.sequenceLength 1024 exceeds the model's 512 positions: lower it, or leave it out to cover 99 % of "
        "the rows",
    )


def test_a_job_without_shared_storage_prepares_for_itself(job, tmp_path, workspaces):
    """A hub repository is no place for scratch files: the trainer prepares again and checks the digest."""
    assert tokenizer().eos_token == "<|im_end|>"
    report = examine(replace(job, checkpoint=Location(uri="hf://org/name")), workspaces()).preflight

    assert (report.prepared_uri, report.preview_uri) == ("", "")
