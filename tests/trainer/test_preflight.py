"""Preflight: every reason that a user can meet, the claim, and that neither torch nor a pickle is ever loaded."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from finetune_trainer.contract import (
    Artifact,
    Evaluation,
    Location,
    Model,
    Outcome,
    PreflightConfig,
    outcome_text,
    parse_outcome,
)
from finetune_trainer.errors import UserError
from finetune_trainer.preflight.claim import Claim
from finetune_trainer.preflight.examine import examine, run_digest
from finetune_trainer.preflight.model import examine_model, flattened, reduced
from finetune_trainer.wire import dumps, to_wire

from tests.servers.hub import TOKEN, serving
from tests.trainer.data_inputs import a_config, at, chats, jsonl, model, tokenizer

MODEL_CONFIG = {
    "architectures": "LlamaForCausalLM", "hidden_size": 8, "intermediate_size": 16, "max_position_embeddings": 512,
    "model_type": "llama", "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": 400,
}  # fmt: skip


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A job whose model, data and output are folders here."""
    monkeypatch.setenv("FINETUNE_ALLOW_FILE", "1")
    base = model(tmp_path / "model")
    data = jsonl(tmp_path / "data.jsonl", [*chats(99), chats(1)[0]])
    return a_config(tmp_path, base=base, data=data)


@pytest.fixture
def workspaces(tmp_path):
    """A fresh workspace for each Pod."""
    numbers = iter(range(100))
    return lambda: tmp_path / f"workspace-{next(numbers)}"


def refusal_of(config: PreflightConfig, workspace: Path) -> tuple[str, str]:
    with pytest.raises(UserError) as refusal:
        examine(config, workspace)
    return refusal.value.reason, refusal.value.message


def in_a_pod(config: PreflightConfig, folder: Path, *command: str, **environment: str):
    """Run in a process of its own, as the Pod does."""
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(dumps(config))
    own = {
        "FINETUNE_RUN_CONFIG": str(folder / "run.json"),
        "FINETUNE_WORKSPACE": str(folder),
        "FINETUNE_TERMINATION_LOG": str(folder / "termination-log"),
        "FINETUNE_ALLOW_FILE": "1",
    }
    arguments = command or ("-m", "finetune_trainer", "preflight")
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | own | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


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


def test_no_torch_in_the_process_and_the_outcome_in_the_message(job, tmp_path):
    """The preflight image has none; where torch is installed it must not be loaded either."""
    script = (
        "import sys\nfrom finetune_trainer.__main__ import main\ncode = main(['preflight'])\n"
        "print(sorted(name for name, module in sys.modules.items() if name.split('.')[0] == 'torch' and module))\nsys.exit(code)"
    )

    done = in_a_pod(job, tmp_path / "pod", "-c", script)

    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "[]"), done.stderr
    outcome = parse_outcome((tmp_path / "pod" / "termination-log").read_text())
    assert outcome is not None
    assert (outcome.outcome, outcome.reason) == ("Succeeded", "Prepared")


def test_a_finished_run_is_not_trained_again(job, tmp_path, workspaces):
    """Its artifacts come from the manifest, and another job of the same run gets them too."""
    digest = examine(job, workspaces()).preflight.run_digest
    artifact = Artifact(kind="adapter", uri="file:///out/adapter", digest="sha256:a", size_bytes=3)
    manifest = {"runDigest": digest, "namespace": "team-a", "name": "bot", "artifacts": [to_wire(artifact)]}
    (tmp_path / "out" / "finetune-manifest.json").write_text(json.dumps(manifest))

    outcome = examine(replace(job, uid="uid-2", name="again"), workspaces())

    assert (outcome.outcome, outcome.reason, outcome.artifacts) == ("Succeeded", "AlreadyPublished", (artifact,))
    assert outcome.message == f"the same run is complete at {job.output.uri}: nothing is trained again"


def test_a_finished_output_of_another_run_is_occupied(job, tmp_path, workspaces):
    """It is never overwritten, not even by the same job after an edit."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "finetune-manifest.json").write_text(
        '{"runDigest": "sha256:other", "namespace": "b", "name": "c"}'
    )

    reason, message = refusal_of(job, workspaces())

    assert reason == "OutputOccupied"
    assert message.startswith(
        f"{job.output.uri} holds the result of another run (job b/c, sha256:other; this one is sha256:"
    )


def test_an_output_that_another_job_claimed_is_occupied(job, workspaces):
    """The message says who owns it."""
    examine(job, workspaces())

    assert refusal_of(replace(job, name="other", uid="uid-9"), workspaces()) == (
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
    reason, message = refusal_of(replace(job, spec_digest="sha256:third"), workspaces())
    assert (reason, message) == (
        "OutputOccupied",
        f"{job.output.uri} holds an unfinished run of this job with other settings or data ({digest[:19]}): choose another "
        "output.destination, or remove its checkpoints",
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

    assert refusal_of(job, workspaces()) == (
        "OutputOccupied",
        f"{job.output.uri} already has a folder adapter that no run has claimed: choose another output.destination, or move it "
        "away",
    )


def test_destinations_are_tried_by_writing(job, tmp_path, workspaces):
    """Output and checkpoints, each with its own remedy."""
    (tmp_path / "file").write_text("x")

    assert refusal_of(replace(job, output=at(tmp_path / "file")), workspaces()) == (
        "OutputNotWritable",
        f"the output file://{tmp_path}/file is not a folder: create it or correct spec.output.destination",
    )
    assert refusal_of(replace(job, checkpoint=at(tmp_path / "file")), workspaces()) == (
        "OutputNotWritable",
        f"the checkpoint destination file://{tmp_path}/file is not a folder: create it or correct spec.checkpoint.destination",
    )


def test_models_that_cannot_be_tuned_are_refused(job, tmp_path, workspaces):
    """Missing, of another kind, with code of their own, quantised already, incomplete."""

    def refused(name: str, **config):
        model(tmp_path / name, **config)
        return refusal_of(replace(job, model=Model(location=at(tmp_path / name))), workspaces())

    uri = f"file://{tmp_path}"
    assert refusal_of(replace(job, model=Model(location=at(tmp_path / "gone"))), workspaces()) == (
        "ModelNotFound", f"the model {uri}/gone does not exist: correct spec.model.source or spec.model.revision"
    )  # fmt: skip
    assert refused("t5", model_type="t5", architectures=["T5ForConditionalGeneration"]) == (
        "ModelUnsupported",
        f"{uri}/t5 is of type 't5' (T5ForConditionalGeneration), no causal language model that transformers can train: choose "
        "a decoder such as Llama, Qwen, Mistral or Gemma",
    )
    assert refused("code", model_type="mine", auto_map={"AutoModelForCausalLM": "mine.Mine"}) == (
        "ModelUnsupported",
        f"{uri}/code brings its own Python code: set model.trustRemoteCode with a pinned revision, or choose another",
    )
    assert refused("fp8", quantization_config={"quant_method": "fp8"}) == (
        "ModelUnsupported",
        f"the weights of {uri}/fp8 are quantised already (fp8), which cannot be trained: choose the unquantised model; method "
        "qlora quantises it while loading",
    )
    (tmp_path / "model" / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}'
    )
    assert refusal_of(job, workspaces()) == (
        "ModelNotFound", f"{uri}/model lacks 1 of 2 weight files, such as model-2.safetensors"
    )  # fmt: skip


def test_code_of_a_model_needs_a_pinned_revision(job, workspaces):
    """A branch can change after the review."""
    asked = replace(job.model, trust_remote_code=True, revision="main")

    assert refusal_of(replace(job, model=asked), workspaces()) == (
        "InvalidSpec",
        "model.trustRemoteCode runs code of the repository, so model.revision must be a commit id of 40 digits",
    )


class Canary:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


@pytest.mark.parametrize("suffix", ["bin", "pt", "pth", "ckpt", "pkl"])
@pytest.mark.parametrize("kind", ["model", "adapter", "data"])
def test_a_pickle_is_refused_and_never_run(job, tmp_path, workspaces, suffix, kind):
    """In a model, an adapter or a data set, whatever its name."""
    folder = tmp_path / {"model": "model", "adapter": "adapter", "data": "rows"}[kind]
    folder.mkdir(exist_ok=True)
    (folder / f"weights.{suffix}").write_bytes(pickle.dumps(Canary(tmp_path / "executed")))
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    jsonl(folder / "train.jsonl", chats(30))
    asked = {
        "model": job,
        "adapter": replace(job, initial_adapter=at(folder)),
        "data": replace(job, datasets=(replace(job.datasets[0], location=at(folder)),)),
    }[kind]

    reason, message = refusal_of(asked, workspaces())

    assert (reason, "pickle" in message) == ("DatasetInvalid" if kind == "data" else "ModelUnsupported", True)
    assert not (tmp_path / "executed").exists()
    pickle.loads((folder / f"weights.{suffix}").read_bytes())
    assert (tmp_path / "executed").is_dir()  # the canary does sing


def test_an_adapter_of_another_base_revision_is_refused(job, tmp_path, workspaces):
    """Its own config or the manifest beside it says what it was trained on."""
    folder = model(tmp_path / "run" / "adapter")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "org/base"}')
    asked = replace(job, initial_adapter=at(folder))
    doubtful = examine(replace(asked, output=at(tmp_path / "o"), checkpoint=at(tmp_path / "c")), workspaces())
    assert doubtful.preflight.warnings[0] == (
        f"the adapter file://{folder} does not say which revision it was trained on (its base is org/base): check it"
    )

    artifact = Artifact(kind="adapter", uri="u", digest="d", size_bytes=1, base_revision="sha256:another")
    (tmp_path / "run" / "finetune-manifest.json").write_text(json.dumps({"artifacts": [to_wire(artifact)]}))
    reason, message = refusal_of(asked, workspaces())

    revision = examine_model(job.model, workspaces()).revision
    assert (reason, message) == (
        "ModelUnsupported",
        f"the adapter file://{folder} was trained on revision sha256:another of its base model, but this job uses {revision}: "
        "set model.revision to the adapter's, or train a new adapter",
    )


def test_a_sequence_length_beyond_the_model_is_refused(job, workspaces):
    """Positions that the model never saw train nothing useful."""
    assert refusal_of(replace(job, sequence_length=1024), workspaces()) == (
        "InvalidSpec",
        "training.sequenceLength 1024 is more than the 512 positions of the model: lower it, or leave it out to cover 99 % of "
        "the rows",
    )


def test_a_folder_of_other_weights_is_another_revision(job, tmp_path, workspaces):
    """The digest covers the weights, not their time stamps."""
    first = examine_model(job.model, workspaces()).revision
    os.utime(tmp_path / "model" / "model.safetensors", (1, 1))
    same = examine_model(job.model, workspaces()).revision
    with (tmp_path / "model" / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")

    assert (first == same, first == examine_model(job.model, workspaces()).revision) == (True, False)


def test_the_model_config_is_flat_and_small():
    """Nested decoders are lifted, lists become counts, cosmetics go: it must fit a termination message."""
    config = {
        "model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "vision_config": {"hidden_size": 1},
        "eos_token_id": [1, 106], "transformers_version": "5", "mlp_only_layers": [],
        "text_config": {
            "model_type": "gemma3_text", "hidden_size": 2560, "rope_scaling": {"factor": 8.0}, "rms_norm_eps": 1e-6,
            "layer_types": ["sliding_attention"] * 5 + ["full_attention"], "sliding_window": None,
        },
        "quantization_config": {"quant_method": "mxfp4"},
    }  # fmt: skip

    assert reduced(flattened(config)) == {
        "model_type": "gemma3", "text_model_type": "gemma3_text", "architectures": "Gemma3ForConditionalGeneration",
        "hidden_size": 2560, "layer_types": "sliding_attention:5,full_attention:1", "mlp_only_layers": 0,
        "quantization_config": "mxfp4",
    }  # fmt: skip


def test_everything_from_a_hub_and_a_bucket_and_no_secret_anywhere(job, tmp_path, s3_server):
    """Model and data from the hub, output in S3; tokens and keys are in no log, no outcome, no argv and no file."""
    keys = s3_server.environment | {"AWS_ACCESS_KEY_ID": s3_server.access_key}
    with serving() as hub:
        content = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
        commit = hub.add("org/base", content, private=True)
        rows = "".join(json.dumps(row) + "\n" for row in chats(60))
        hub.add(
            "org/rows", {"data/train-00000-of-00001.jsonl": rows, "data/test.jsonl": rows}, kind="dataset", private=True
        )
        secrets = {"hf": {"HF_TOKEN": TOKEN, "HF_ENDPOINT": hub.endpoint}, "s3": keys}
        for name, values in secrets.items():
            (tmp_path / name).mkdir()
            for key, value in values.items():
                (tmp_path / name / key).write_text(value)
        out = f"s3://{s3_server.bucket}/preflight/bot"
        config = replace(
            job,
            model=Model(location=Location(uri="hf://org/base", secret="hf")),
            datasets=(replace(job.datasets[0], location=Location(uri="hf://org/rows", secret="hf")),),
            output=Location(uri=out, secret="s3"),
            checkpoint=Location(uri=f"{out}/.checkpoints", secret="s3"),
        )
        mounts = {"FINETUNE_SECRETS": f"hf={tmp_path / 'hf'}:s3={tmp_path / 's3'}", "HF_HOME": str(tmp_path / "home")}
        done = in_a_pod(config, tmp_path / "pod", **mounts)
        broken = in_a_pod(
            replace(config, model=Model(location=Location(uri="hf://org/none", secret="hf"))),
            tmp_path / "pod2",
            **mounts,
        )

    text = (tmp_path / "pod" / "termination-log").read_text()
    outcome = parse_outcome(text)
    assert outcome is not None, done.stderr
    assert (done.returncode, outcome.reason, outcome.preflight.model_revision) == (0, "Prepared", commit)
    assert (outcome.preflight.examples + outcome.preflight.evaluation_examples) == 60
    assert s3_server.read("preflight/bot/finetune-run.json")
    assert (broken.returncode, "ModelNotFound" in broken.stdout) == (87, True)
    everything = [
        done.stdout,
        done.stderr,
        text,
        broken.stdout,
        broken.stderr,
        (tmp_path / "pod" / "run.json").read_text(),
    ]
    stored = [
        path
        for folder in (tmp_path / "pod", tmp_path / "home", s3_server.folder)
        for path in folder.rglob("*")
        if path.is_file()
    ]
    everything += [path.read_bytes().decode(errors="replace") for path in stored]
    assert len(stored) > 8
    for secret in (TOKEN, s3_server.secret_key):
        assert not [part[:200] for part in everything if secret in part]


def test_an_unforeseen_error_is_reported_without_secrets(job, tmp_path):
    """Even an exception whose text holds the token."""
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "HF_TOKEN").write_text(TOKEN)
    broken = replace(job, objective=f"boom {TOKEN}", name=TOKEN, evaluation=Evaluation(fraction=float("0.1")))
    script = (
        "import sys\nfrom finetune_trainer.preflight import __main__ as pod\nimport finetune_trainer.wire as wire\n"
        f"def loads(kind, text):\n    raise RuntimeError('token {TOKEN} slipped')\npod.loads = loads\nsys.exit(pod.main())"
    )

    done = in_a_pod(broken, tmp_path / "pod", "-c", script, FINETUNE_SECRETS=f"hf={tmp_path / 'hf'}")

    outcome = parse_outcome((tmp_path / "pod" / "termination-log").read_text())
    assert outcome == Outcome(
        outcome="Failed",
        reason="TrainerError",
        message="RuntimeError: token <HF_TOKEN> slipped; the Pod's log has the traceback",
    )
    assert (done.returncode, TOKEN in done.stdout + done.stderr) == (1, False)


def test_a_broken_tokenizer_is_said(job, tmp_path, workspaces):
    """transformers' own words, and what should be there."""
    for file in (tmp_path / "model").glob("tokenizer*"):
        file.unlink()

    reason, message = refusal_of(job, workspaces())

    assert reason == "ModelUnsupported"
    assert message.startswith(f"the tokenizer of file://{tmp_path}/model cannot be loaded (")
    assert message.endswith("): tokenizer.json and tokenizer_config.json must be beside config.json")


def test_a_job_without_shared_storage_prepares_for_itself(job, tmp_path, workspaces):
    """A hub repository is no place for scratch files: the trainer prepares again and checks the digest."""
    assert tokenizer().eos_token == "<|im_end|>"
    report = examine(replace(job, checkpoint=Location(uri="hf://org/name")), workspaces()).preflight

    assert (report.prepared_uri, report.preview_uri) == ("", "")
