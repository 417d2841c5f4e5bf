"""A model that is left to a Pod without GPUs: what that publishes is, bit for bit, what the attempt would have published itself."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_contract import ExportConfig, Location, Metric, Outcome, RunConfig
from finetune_trainer.errors import ReportedError, UserError
from finetune_trainer.exporting.export import export
from finetune_trainer.exporting.rewriting import planned, write
from finetune_trainer.publishing import artifacts
from finetune_trainer.training.handed_over import Weights
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.servers.versitygw import S3Server
from tests.trainer.running import IN_PROCESS, trained
from tests.trainer.test_export import WORDS, for_llama_cpp
from tests.trainer.test_sharded import cpu_adam, in_two_ranks
from tests.trainer.tiny import a_run, changed, conversations, tiny_model

__all__ = ["cpu_adam"]

pytestmark = [*IN_PROCESS, pytest.mark.usefixtures("local_files")]

STOPPING: dict[str, Any] = {
    "max_steps": 6, "every_steps": 2, "early_stopping_patience": 1, "early_stopping_min_delta": 9.0,
}  # fmt: skip
"""Its best weights are those of step 2, and it ends at step 4."""


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same model in float32, float16 and, as most hubs hold them, bfloat16."""
    folder = tmp_path_factory.mktemp("bases")
    found = {"float32": tiny_model(folder / "float32")}
    for name in ("bfloat16", "float16"):
        model = AutoModelForCausalLM.from_pretrained(found["float32"], dtype=getattr(torch, name))
        model.save_pretrained(folder / name)
        AutoTokenizer.from_pretrained(found["float32"]).save_pretrained(folder / name)
        found[name] = folder / name
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conversations(tmp_path_factory.mktemp("data") / "train.jsonl", rows=60)


def asked(run: RunConfig, *exports: str, number: int = 0) -> ExportConfig:
    """Return what the Pod is told that publishes the model of an attempt."""
    return ExportConfig(
        namespace=run.namespace, name=run.name, uid=run.uid, number=number, run_digest=run.run_digest, model=run.model,
        output=run.output, checkpoint=run.checkpoint.location, exports=exports, handed_over_by=run.attempt,
    )  # fmt: skip


def carried_out(run: RunConfig, folder: Path) -> Outcome:
    """Train in one process, or in two ranks where the run is sharded."""
    return in_two_ranks(run, folder)[0] if run.layout.zero_stage else trained(run, folder)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "out/.checkpoints").iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of a published model but its card, which has times in it."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "README.md")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("stored", "precision", "stage", "parts"),
    [
        ("bfloat16", "mixed", 0, {"metrics": (Metric(name="rougeL", type="rougeL"),), "max_answer_tokens": 8}),
        ("float32", "bf16", 0, {}),
        ("float16", "mixed", 0, STOPPING),
        ("bfloat16", "bf16", 2, {}),
        ("float32", "bf16", 2, STOPPING),
        ("bfloat16", "mixed", 2, {}),
        ("bfloat16", "bf16", 3, {}),
        ("float16", "mixed", 3, {}),
    ],
)
def test_the_published_model_is_the_one_that_the_attempt_would_publish(
    tmp_path: Path, bases: dict[str, Path], data: Path, stored: str, precision: str, stage: int, parts: dict[str, Any]
) -> None:
    """Every file of it. On a CPU `mixed` computes in float32, so that a checkpoint's weights are cast; `bf16` in bfloat16."""
    sharded = {"gpus_per_replica": 2, "micro_batch_size": 2, "zero_stage": stage} if stage else {}
    changes: dict[str, Any] = {"method": "full", "precision": precision, "learning_rate": 5e-4, **sharded, **parts}
    here = a_run(tmp_path / "here", model=bases[stored], data=data, **changes)
    handed = replace(a_run(tmp_path / "handed", model=bases[stored], data=data, **changes), hand_over=True)

    published, outcome = carried_out(here, tmp_path / "here"), carried_out(handed, tmp_path / "handed")
    stopped = parts is STOPPING
    steps, weights = (4, "best-attempt-0-step-2") if stopped else (8, "attempt-0-step-8")
    assert (outcome.outcome, outcome.reason, outcome.message, outcome.artifacts) == (
        "Succeeded", "Trained",
        f"trained {steps} steps; the model is published by a Pod without GPUs, from {weights}", (),
    )  # fmt: skip
    assert outcome.evaluation == published.evaluation
    assert not (tmp_path / "handed/out/finetune-manifest.json").exists()
    done = export(asked(handed), tmp_path / "pod")

    (ours,), (theirs,) = done.artifacts, published.artifacts
    assert (ours.kind, ours.uri, done.evaluation) == (
        "model",
        f"file://{tmp_path}/handed/out/model",
        outcome.evaluation,
    )
    assert replace(ours, uri="", digest="", size_bytes=0) == replace(theirs, uri="", digest="", size_bytes=0)
    assert contents(tmp_path / "handed/out/model") == contents(tmp_path / "here/out/model")
    manifests = [
        json.loads((tmp_path / name / "out/finetune-manifest.json").read_text()) for name in ("handed", "here")
    ]
    assert manifests[0].keys() == manifests[1].keys()
    assert [each["evaluation"] for each in manifests] == [manifests[0]["evaluation"]] * 2
    cards = [(tmp_path / name / "out/model/README.md").read_text().splitlines() for name in ("handed", "here")]
    assert [line.partition("|")[0].replace("/handed/", "/here/") for line in cards[0]] == [
        line.partition("|")[0] for line in cards[1]
    ]
    assert "result-attempt-0" not in left(tmp_path / "handed")


@pytest.mark.offload
@pytest.mark.parametrize("stage", [2, 3])
def test_an_optimizer_on_the_host_leaves_the_same_weights(
    tmp_path: Path, bases: dict[str, Path], data: Path, cpu_adam: Path, stage: int
) -> None:
    """It rounds its masters itself when it brings them back to the device."""
    offload = "all" if stage == 3 else "optimizer"
    changes: dict[str, Any] = {
        "method": "full", "precision": "bf16", "learning_rate": 5e-4, "gpus_per_replica": 2, "micro_batch_size": 2,
        "zero_stage": stage, "offload": offload, "prompts": (), "baseline": False,
    }  # fmt: skip
    here = a_run(tmp_path / "here", model=bases["bfloat16"], data=data, **changes)
    handed = replace(a_run(tmp_path / "handed", model=bases["bfloat16"], data=data, **changes), hand_over=True)
    in_two_ranks(here, tmp_path / "here", cpu_adam)
    outcome, _log = in_two_ranks(handed, tmp_path / "handed", cpu_adam)
    assert outcome.reason == "Trained"

    export(asked(handed), tmp_path / "pod")

    assert contents(tmp_path / "handed/out/model") == contents(tmp_path / "here/out/model")


def test_masters_that_no_checkpoint_holds_in_16_bit_are_published_by_the_attempt(
    tmp_path: Path, bases: dict[str, Path], data: Path
) -> None:
    """DeepSpeed's checkpoints have bfloat16 copies of them, and the base is stored in float16."""
    run = a_run(
        tmp_path, model=bases["float16"], data=data, method="full", precision="bf16", learning_rate=5e-4, gpus_per_replica=2,
        micro_batch_size=2, zero_stage=2, prompts=(), baseline=False,
    )  # fmt: skip
    outcome, log = in_two_ranks(replace(run, hand_over=True), tmp_path)

    assert (outcome.reason, outcome.artifacts[0].kind) == ("Published", "model")
    assert (
        "this Pod publishes the model: its float32 masters become float16, and checkpoints hold bfloat16 copies of them"
        in log
    )
    assert "result-attempt-0" not in left(tmp_path)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory, bases: dict[str, Path], data: Path) -> Path:
    """The output of a run that stopped early and left its model, at the place of its checkpoints."""
    folder = tmp_path_factory.mktemp("once")
    with pytest.MonkeyPatch.context() as node:
        node.setenv("FINETUNE_ALLOW_FILE", "1")
        trained(the_run(folder, bases, data), folder)
    return folder / "out"


def the_run(folder: Path, bases: dict[str, Path], data: Path) -> RunConfig:
    run = a_run(folder, model=bases["bfloat16"], data=data, method="full", prompts=(), baseline=False, **STOPPING)
    return replace(run, hand_over=True)


@pytest.fixture
def run(tmp_path: Path, once: Path, bases: dict[str, Path], data: Path) -> RunConfig:
    """That run, with an output of its own."""
    shutil.copytree(once, tmp_path / "out")
    return the_run(tmp_path, bases, data)


def test_a_pod_that_is_killed_is_repeated(tmp_path: Path, run: RunConfig) -> None:
    """Before the manifest is written all is done again; after it nothing but to clear away."""
    (tmp_path / "out/finetune-manifest.json").mkdir()  # so that it cannot be written
    with pytest.raises(ReportedError):
        export(asked(run), tmp_path / "first")
    assert "result-attempt-0" in left(tmp_path)
    (tmp_path / "out/finetune-manifest.json").rmdir()
    kept = shutil.copytree(tmp_path / "out/.checkpoints/result-attempt-0", tmp_path / "kept")
    second = export(asked(run, number=1), tmp_path / "second")
    assert "result-attempt-0" not in left(tmp_path)
    shutil.copytree(kept, tmp_path / "out/.checkpoints/result-attempt-0")

    third = export(asked(run, number=2), tmp_path / "third")

    assert third.artifacts == second.artifacts
    assert "result-attempt-0" not in left(tmp_path)


def test_a_form_is_made_in_the_same_pod(tmp_path: Path) -> None:
    """The model first, then what is made of it."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"text": WORDS}) for _ in range(40)) + "\n")
    run = a_run(
        tmp_path, model=for_llama_cpp(tmp_path / "base"), data=rows, method="full", precision="bf16", learning_rate=1e-5,
        max_steps=2, prompts=(), baseline=False,
    )  # fmt: skip
    run = replace(run, objective="cpt", hand_over=True)
    assert trained(run, tmp_path).reason == "Trained"

    done = export(asked(run, "gguf-q8_0"), tmp_path / "pod")

    assert [artifact.kind for artifact in done.artifacts] == ["model", "gguf-q8_0"]


def test_a_file_is_written_anew_as_safetensors_writes_it(tmp_path: Path) -> None:
    """Byte by byte, whatever it holds: the order of dtypes and names, scalars, empty tensors, names with accents."""
    kinds = (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.int32, torch.int16, torch.int8,
             torch.uint8, torch.bool)  # fmt: skip
    tensors = {f"{name}.{kind}": torch.arange(6).reshape(2, 3).to(kind) for kind in kinds for name in ("b", "a", "ä")}
    tensors |= {"scalar": torch.tensor(1.5), "empty": torch.zeros(0, 3), "copy": torch.ones(2)}
    source, wanted, found = (tmp_path / name for name in ("source", "wanted", "found"))
    save_file(tensors, source, metadata={"format": "pt"})
    cast = {
        name: value.bfloat16() if value.is_floating_point() and not name.startswith("b.") else value
        for name, value in tensors.items()
        if name != "copy"
    }
    save_file(cast, wanted, metadata={"format": "pt"})
    weights = Weights(folder="", files={}, dtype="bfloat16", kept=("b.",), dropped=("copy",))

    write(source, found, planned(source, weights))

    assert found.read_bytes() == wanted.read_bytes()


def test_of_a_bucket_only_what_is_published_is_fetched(
    tmp_path: Path, bases: dict[str, Path], data: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the optimizer's states, which are several times as large."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    base = f"s3://{s3_server.bucket}/handed"
    run = a_run(
        tmp_path, model=bases["bfloat16"], data=data, method="full", precision="bf16", max_steps=2, prompts=(), baseline=False,
        location=Location(uri=f"{base}/.checkpoints"), output=Location(uri=base),
    )  # fmt: skip
    run = replace(run, hand_over=True)
    assert trained(run, tmp_path).reason == "Trained"

    (artifact,) = export(asked(run), tmp_path / "pod").artifacts

    stored = s3_server.folder / s3_server.bucket / "handed"
    fetched = sorted(path.name for path in (tmp_path / "pod/trained/attempt-0-step-2").iterdir())
    assert fetched == ["config.json", "generation_config.json", "model.safetensors"]
    assert artifact.digest == artifacts.folder_digest(artifacts.file_digests(stored / "model"))
    weights = [stored / place / "model.safetensors" for place in (".checkpoints/attempt-0-step-2", "model")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert not (stored / ".checkpoints/result-attempt-0").exists()


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (
            "best-attempt-0-step-2/model.safetensors",
            "best-attempt-0-step-2 is damaged: 1 of 3 files differ from what was written (first model.safetensors); restore them: the run "
            "cannot be published without its best weights",
        ),
        (
            "result-attempt-0/result.json",
            "result-attempt-0 is damaged: 1 of 5 files differ from what was written (first result.json)",
        ),
        ("result-attempt-0/COMPLETE", "result-attempt-0, which the attempt left, is gone"),
    ],
)  # fmt: skip
def test_what_is_damaged_is_not_published(tmp_path: Path, run: RunConfig, file: str, said: str) -> None:
    """Digests tell."""
    (tmp_path / "out/.checkpoints" / file).write_bytes(b"x")
    with pytest.raises(UserError) as error:
        export(asked(run), tmp_path / "pod")

    where = f"file://{tmp_path}/out/.checkpoints"
    assert (error.value.reason, error.value.message) == ("PublishFailed", f"{where}/{said}")
    assert not (tmp_path / "out/model").exists()


def test_what_another_job_left_is_not_published(tmp_path: Path, run: RunConfig) -> None:
    """A job that was deleted counted its attempts from 0, too."""
    with pytest.raises(UserError, match=r"result-attempt-0 was left by another job of this name$"):
        export(asked(replace(run, uid="u-2")), tmp_path / "pod")


def test_a_job_that_is_applied_again_leaves_its_model_again(tmp_path: Path, run: RunConfig) -> None:
    """Nothing is trained again: it goes on from the last checkpoint, and what the deleted job left is gone."""
    again = changed(replace(run, uid="u-2"), attempt=1)
    outcome = trained(again, tmp_path / "again")

    assert (outcome.reason, outcome.step, outcome.checkpoint_step) == ("Trained", 4, 4)
    assert [name for name in left(tmp_path) if name.startswith("result")] == ["result-attempt-1"]
    with pytest.raises(UserError, match=r"result-attempt-0, which the attempt left, is gone$"):
        export(asked(run), tmp_path / "first")
    done = export(asked(again), tmp_path / "pod")
    assert done.artifacts[0].kind == "model"


def test_another_run_that_took_the_place_over_is_respected(tmp_path: Path, run: RunConfig) -> None:
    """Its checkpoints replace those of this run: what is published would be a mixture."""
    file = tmp_path / "out/.checkpoints/holder.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"runDigest": "sha256:other", "turn": 9}))
    with pytest.raises(UserError) as error:
        export(asked(run), tmp_path / "pod")

    assert error.value.reason == "OutputOccupied"
