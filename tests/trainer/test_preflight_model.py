"""Models and adapters that preflight refuses, what it reads of them, and that no pickle is ever loaded."""

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from finetune_contract import Artifact, Location, Model
from finetune_contract.wire import to_wire
from finetune_trainer.errors import UserError
from finetune_trainer.preflight.completeness import families
from finetune_trainer.preflight.examine import examine
from finetune_trainer.preflight.family import check_family
from finetune_trainer.preflight.model import examine_model, flattened, reduced

from tests.trainer.data_inputs import adapter, at, chats, jsonl, model, preflight_refusal


def test_models_that_cannot_be_tuned_are_refused(job, tmp_path, workspaces):
    """Missing, of another kind, with code of their own, quantised already, incomplete."""

    def refused(name: str, **config):
        model(tmp_path / name, **config)
        return preflight_refusal(replace(job, model=Model(location=at(tmp_path / name))), workspaces())

    uri = f"file://{tmp_path}"
    assert preflight_refusal(replace(job, model=Model(location=at(tmp_path / "gone"))), workspaces()) == (
        "ModelNotFound", f"the model {uri}/gone does not exist: correct spec.model.source or spec.model.revision"
    )  # fmt: skip
    assert refused("t5", model_type="t5", architectures=["T5ForConditionalGeneration"]) == (
        "ModelUnsupported",
        f"{uri}/t5 is of type 't5' (T5ForConditionalGeneration), which is not a causal language model that transformers can "
        "train: choose "
        "a decoder such as Llama, Qwen, Mistral or Gemma",
    )
    assert refused("code", model_type="mine", auto_map={"AutoModelForCausalLM": "mine.Mine"}) == (
        "ModelUnsupported",
        f"{uri}/code is of type 'mine', which brings its own Python code and whose memory use cannot be estimated: choose a model "
        f"of one of the types {', '.join(sorted(families()))}, or a copy that was converted to one of them",
    )
    assert refused("fp8", quantization_config={"quant_method": "fp8"}) == (
        "ModelUnsupported",
        f"the weights of {uri}/fp8 are already quantised (fp8) and cannot be trained: use the unquantised model; method "
        "qlora quantises it while loading",
    )
    (tmp_path / "model" / "model.safetensors.index.json").write_text(
        '{"metadata": {}, "weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}'
    )
    assert preflight_refusal(job, workspaces()) == (
        "ModelNotFound",
        f"{uri}/model lacks 1 of 2 weight files, such as model-2.safetensors: copy all files of the model, of one revision",
    )  # fmt: skip


@pytest.mark.parametrize("uri", ["hf://acme/lm", "pvc://models/lm", "s3://models/lm"])
def test_no_way_is_offered_that_ends_at_the_plan(uri):
    """To let the code run would only lead to the planner's refusal of the type."""
    with pytest.raises(UserError) as refusal:
        check_family(
            {"model_type": "mine", "auto_map": {"AutoModelForCausalLM": "mine.Mine"}},
            Model(location=Location(uri=uri)),
            uri,
        )

    assert refusal.value.message.startswith(
        f"{uri} is of type 'mine', which brings its own Python code and whose memory use cannot be "
    )
    assert "trustRemoteCode" not in refusal.value.message


def test_code_of_a_model_needs_a_pinned_revision(job, workspaces):
    """A branch can change after the review."""
    asked = replace(job.model, trust_remote_code=True, revision="main")

    assert preflight_refusal(replace(job, model=asked), workspaces()) == (
        "InvalidSpec",
        "model.trustRemoteCode runs code of the repository, so the model must be on the hub (hf://), with a commit id of 40 hexadecimal "
        "digits as model.revision",
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
    """As the weights of a model or an adapter, or in a data set, whatever its name."""
    folder = tmp_path / {"model": "model", "adapter": "adapter", "data": "rows"}[kind]
    if kind == "adapter":
        adapter(folder)
    folder.mkdir(exist_ok=True)
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    (folder / f"weights.{suffix}").write_bytes(pickle.dumps(Canary(tmp_path / "executed")))
    jsonl(folder / "train.jsonl", chats(30))
    asked = {
        "model": job,
        "adapter": replace(job, initial_adapter=at(folder)),
        "data": replace(job, datasets=(replace(job.datasets[0], location=at(folder)),)),
    }[kind]

    reason, message = preflight_refusal(asked, workspaces())

    assert (reason, "pickle" in message) == ("DatasetInvalid" if kind == "data" else "ModelUnsupported", True)
    assert not (tmp_path / "executed").exists()
    pickle.loads((folder / f"weights.{suffix}").read_bytes())
    assert (tmp_path / "executed").is_dir()  # the canary does sing


def test_pickles_beside_safetensors_are_not_read_and_named(job, tmp_path, workspaces):
    """Folders of the transformers Trainer hold them: its checkpoint is a base model like any other."""
    for name in ("optimizer.pt", "rng_state.pth", "scheduler.pt", "training_args.bin"):
        (tmp_path / "model" / name).write_bytes(pickle.dumps(Canary(tmp_path / "executed")))

    report = examine(job, workspaces()).preflight

    assert report.warnings[0] == (
        f"file://{tmp_path}/model holds pickle files (optimizer.pt, rng_state.pth, scheduler.pt and 1 more), which can run "
        "code when loaded and are not read"
    )
    assert not (tmp_path / "executed").exists()


def test_an_adapter_of_another_base_revision_is_refused(job, tmp_path, workspaces):
    """Its own config or the manifest beside it says what it was trained on."""
    folder = adapter(tmp_path / "run" / "adapter", base_model_name_or_path="org/base")
    asked = replace(job, initial_adapter=at(folder))
    doubtful = examine(replace(asked, output=at(tmp_path / "o"), checkpoint=at(tmp_path / "c")), workspaces())
    assert doubtful.preflight.warnings[0] == (
        f"the adapter file://{folder} does not record the revision it was trained on (base model: org/base): check that it "
        "belongs to this model"
    )

    artifact = Artifact(kind="adapter", uri="u", digest="d", size_bytes=1, base_revision="sha256:another")
    (tmp_path / "run" / "finetune-manifest.json").write_text(json.dumps({"artifacts": [to_wire(artifact)]}))
    reason, message = preflight_refusal(asked, workspaces())

    revision = examine_model(job.model, workspaces()).revision
    assert (reason, message) == (
        "ModelUnsupported",
        f"the adapter file://{folder} was trained on revision sha256:another of its base model, but this job uses {revision}: "
        "use the files of that revision, or train a new adapter",
    )


def test_an_adapter_that_is_larger_than_planned_is_warned_of(job, tmp_path, workspaces):
    """The plan counts with the default shape; one that needs less is no matter."""
    folder, warnings = tmp_path / "adapter", []
    for number, more in enumerate(({"r": 16}, {"r": 64, "use_dora": True, "modules_to_save": ["lm_head"]})):
        adapter(folder, base_model_name_or_path=job.model.location.uri, **more)
        place = {"output": at(tmp_path / f"o{number}"), "checkpoint": at(tmp_path / f"c{number}")}
        found = examine(replace(job, initial_adapter=at(folder), **place), workspaces()).preflight
        warnings.append([warning for warning in found.warnings if "the adapter" in warning])

    assert warnings == [
        [],
        [
            f"the adapter file://{folder} has rank 64 and DoRA's magnitudes and fully trained lm_head, but memory is planned "
            "for plain LoRA of rank 16: choose a pool whose GPUs have memory to spare (resources.pools)"
        ],
    ]


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
