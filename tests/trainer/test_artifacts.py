"""What is published, what it says about itself, and what it never says."""

import errno
import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from finetune_trainer import artifacts, verdict
from finetune_trainer.contract import EvaluationResult, Location, Lora, Outcome, Sample, outcome_text
from finetune_trainer.errors import StorageUnavailable, UserError
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.trainer.running import IN_PROCESS, container, free_port, trained
from tests.trainer.tiny import A_LORA, a_run, changed, conversations, tiny_model

pytestmark = IN_PROCESS

CANARY = "canary-4f1d9c2b7a"
MOUNTED = f"{CANARY}-in-a-file"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conversations(tmp_path_factory.mktemp("data") / "train.jsonl", rows=60)


def test_the_adapter_is_what_was_measured(tmp_path: Path, llama: Path, data: Path) -> None:
    """Safetensors and text only; digests as in the manifest; loaded on its base it has the loss that was reported."""
    run = a_run(tmp_path, model=llama, data=data, prompts=())
    outcome = trained(run, tmp_path)
    folder, manifest = tmp_path / "out" / "adapter", json.loads((tmp_path / "out/finetune-manifest.json").read_text())

    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja", "tokenizer.json",
        "tokenizer_config.json",
    ]  # fmt: skip
    assert manifest["files"] == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    (listed,) = manifest["artifacts"]
    assert listed["digest"] == outcome.artifacts[0].digest == artifacts.folder_digest(manifest["files"])
    assert (manifest["runDigest"], manifest["steps"]) == ("sha256:run", 8)
    assert manifest["versions"]["torch"] == torch.__version__.partition("+")[0]
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["r"]) == (f"file://{llama}", 4)
    assert sorted(config["target_modules"]) == [
        "down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj",
    ]  # fmt: skip
    again = trained(changed(run, attempt=1), tmp_path / "again")
    assert (again.outcome, again.reason, again.artifacts) == ("Succeeded", "AlreadyPublished", outcome.artifacts)
    assert again.evaluation == outcome.evaluation
    base = AutoModelForCausalLM.from_pretrained(llama)
    with torch.no_grad():
        before = base(torch.arange(5, 25)[None]).logits
        after = PeftModel.from_pretrained(base, str(folder))(torch.arange(5, 25)[None]).logits
    assert not torch.equal(before, after)


def test_a_full_fine_tune_is_published_in_the_dtype_of_its_base(tmp_path: Path, data: Path) -> None:
    """A bfloat16 base gives a bfloat16 model of its size; the float32 masters stay in the checkpoint."""
    base = tiny_model(tmp_path / "base")
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(base)
    run = a_run(tmp_path, model=base, data=data, method="full", max_steps=4, prompts=())
    outcome = trained(run, tmp_path)
    published = tmp_path / "out" / "model"
    (checkpoint,) = (tmp_path / "out" / ".checkpoints").glob("attempt-*")

    assert _dtypes(published) == _dtypes(base) == {torch.bfloat16}
    assert _dtypes(checkpoint) == {torch.float32}
    size = (base / "model.safetensors").stat().st_size
    assert (published / "model.safetensors").stat().st_size == size
    assert outcome.artifacts[0].size_bytes == sum(path.stat().st_size for path in published.iterdir())
    assert json.loads((published / "config.json").read_text())["dtype"] == "bfloat16"
    masters = load_file(checkpoint / "model.safetensors")
    assert all(torch.equal(masters[k].bfloat16(), v) for k, v in load_file(published / "model.safetensors").items())


def _dtypes(folder: Path) -> set[torch.dtype]:
    return {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()}


def test_no_secret_leaves_the_pod(tmp_path: Path, llama: Path, data: Path) -> None:
    """Keys are in no argument list of entry, torchrun and workers; in no log, outcome, manifest, card or checkpoint.

    Those of a mounted Secret are in no process's environment either, which whoever may `exec` could read.
    """
    secrets = tmp_path / "secret"
    secrets.mkdir()
    (secrets / "HF_TOKEN").write_text(MOUNTED)
    run = a_run(tmp_path, model=llama, data=data, prompts=(), max_steps=60, gpus_per_replica=2, micro_batch_size=2)
    environment = {"AWS_SECRET_ACCESS_KEY": CANARY, "HF_TOKEN": CANARY, "FINETUNE_SECRETS": f"hub={secrets}"}
    with container(run, tmp_path / "pod", **environment, MASTER_PORT=free_port()) as pod:
        pod.wait_for(lambda report: report.phase == "training" and report.step >= 1)
        processes = _tree(pod.process.pid)
        arguments = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes]
        environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in processes]
        code, _outcome = pod.wait()
    left = [path for path in tmp_path.rglob("*") if path.is_file() and secrets not in path.parents]
    said = {path.name for path in left}

    assert code == 0
    assert len(processes) == 4
    assert [b"\0train\0" in arguments[0], b"\0torch.distributed.run\0" in arguments[1]] == [True, True]
    assert [argument.endswith(b"\0worker\0") for argument in arguments] == [False, True, True, True]
    assert [argument for argument in arguments if CANARY.encode() in argument] == []
    assert [found[:80] for found in environments if MOUNTED.encode() in found] == []
    assert said > {
        "log", "termination", "run.json", "finetune-manifest.json", "README.md", "adapter_config.json", "trainer_state.json",
        "COMPLETE", "optimizer.pt",
    }  # fmt: skip
    assert [str(path) for path in left if CANARY.encode() in path.read_bytes()] == []


def _tree(process: int) -> list[int]:
    """Return a process and all below it, parents first."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *(found for child in children for found in _tree(int(child)))]


class _Canary:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("pytorch_model.bin", "ModelUnsupported"), ("adapter_model.bin", "ModelUnsupported"),
     ("rows.pkl", "DatasetInvalid")],
)  # fmt: skip
def test_the_trainer_refuses_pickles_and_never_runs_them(
    tmp_path: Path, llama: Path, data: Path, name: str, reason: str
) -> None:
    """Preflight did too, but a folder may change between the two: model, initial adapter and data."""
    folder = tmp_path / "given"
    if name == "pytorch_model.bin":
        shutil.copytree(llama, folder)
    else:
        folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (folder / name).write_bytes(pickle.dumps(_Canary(tmp_path / "executed")))
    run = a_run(tmp_path, model=llama, data=data)
    given = Location(uri=f"file://{folder}")
    asked = {
        "pytorch_model.bin": replace(run, model=replace(run.model, location=given)),
        "adapter_model.bin": changed(run, initial_adapter=given),
        "rows.pkl": replace(run, datasets=(replace(run.datasets[0], location=given),)),
    }[name]

    with pytest.raises(UserError) as refusal:
        trained(asked, tmp_path)

    assert (refusal.value.reason, "pickle" in refusal.value.message) == (reason, True)
    assert not (tmp_path / "executed").exists()
    pickle.loads((folder / name).read_bytes())
    assert (tmp_path / "executed").is_dir()  # the canary does sing


@pytest.mark.parametrize(
    ("trust", "revision", "reason", "executed"),
    [
        (False, "a" * 40, "ModelUnsupported", False),
        (True, "main", "InvalidSpec", False),
        (True, "a" * 40, "ModelUnsupported", True),
    ],
)
def test_code_of_a_model_runs_only_when_the_run_says_so_and_pins_it(
    tmp_path: Path, llama: Path, data: Path, trust: bool, revision: str, reason: str, executed: bool
) -> None:
    """The model's own Python leaves a mark when it is imported, and then gives up."""
    folder, mark = tmp_path / "given", tmp_path / "executed"
    shutil.copytree(llama, folder)
    (folder / "mine.py").write_text(
        f"import os\nos.makedirs({str(mark)!r}, exist_ok=True)\nraise ValueError('imported')\n"
    )
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine", "AutoModelForCausalLM": "mine.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    run = a_run(tmp_path, model=folder, data=data)
    asked = replace(run, model=replace(run.model, trust_remote_code=trust, revision=revision))

    with pytest.raises(UserError) as refusal:
        trained(asked, tmp_path)

    assert (refusal.value.reason, mark.exists()) == (reason, executed)


def test_an_exception_with_a_key_in_its_text_is_redacted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also one that is only in a mounted Secret."""
    (tmp_path / "HF_TOKEN").write_text(CANARY + "\n")
    monkeypatch.setenv("FINETUNE_SECRETS", f"hub={tmp_path}")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")

    said = verdict.failure(ValueError(f"401 for Bearer {CANARY}, then very-secret"))

    assert said.message == "ValueError: 401 for Bearer <HF_TOKEN>, then <AWS_SECRET_ACCESS_KEY>"


@pytest.mark.parametrize(
    ("error", "reason", "code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "OutOfMemory", 86),
        (RuntimeError("CUDA error: out of memory"), "OutOfMemory", 86),
        (RuntimeError("cuBLAS: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), "OutOfMemory", 86),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"), "HostOutOfMemory", 1),
        (MemoryError(), "HostOutOfMemory", 1),
        (OSError(errno.ENOSPC, "No space left on device"), "StorageFull", 1),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "StorageFull", 1),
        (RuntimeError("[pair.cc] Connection closed by peer [127.0.0.1]:7"), "CommunicationTimeout", 1),
        (torch.distributed.DistBackendError("NCCL error"), "CommunicationTimeout", 1),
        (StorageUnavailable("bucket b does not answer"), "StorageUnavailable", 1),
        (UserError("LossDiverged", "the loss became nan"), "LossDiverged", 87),
        (KeyError("x"), "TrainerError", 1),
    ],
)
def test_every_end_has_a_reason_and_its_exit_code(error: BaseException, reason: str, code: int) -> None:
    """86 asks for a leaner plan, 87 for another job, 1 for another attempt."""
    outcome = verdict.failure(error)

    assert (outcome.outcome, outcome.reason, verdict.exit_code(outcome)) == ("Failed", reason, code)


def test_the_first_failure_of_a_replica_is_its_verdict(tmp_path: Path) -> None:
    """What the other processes report afterwards is that they lost it."""
    first = Outcome(outcome="Failed", reason="OutOfMemory", message="full")
    verdict.write(first, tmp_path, rank=1)
    verdict.write(Outcome(outcome="Failed", reason="CommunicationTimeout", message="lost"), tmp_path, rank=0)

    assert verdict.read(tmp_path) == first


def test_a_diverging_loss_ends_the_run_with_a_remedy(tmp_path: Path, llama: Path, data: Path) -> None:
    """A loss that is no number is never trained on, nor saved."""
    run = a_run(tmp_path, model=llama, data=data, method="full", learning_rate=1e30, prompts=())

    with pytest.raises(UserError) as refusal:
        trained(run, tmp_path)

    assert refusal.value.reason == "LossDiverged"
    assert "lower spec.training.learningRate" in refusal.value.message
    assert not list((tmp_path / "out" / ".checkpoints").glob("attempt-*"))


@pytest.mark.parametrize(
    ("changes", "verdict_text"),
    [
        ({}, "vllm"),
        ({"variant": "rslora"}, "vllm"),
        ({"variant": "dora"}, "not by vLLM: it does not read DoRA's magnitudes; merge it into the base first"),
        ({"variant": "adalora"}, "not by vLLM: it does not read AdaLoRA's singular values; merge it into the base first"),
        ({"modules_to_save": ("lm_head",)},
         "not by vLLM: it carries whole modules (modulesToSave); merge it into the base first"),
        ({"experts": True}, "not by vLLM: it carries weights for experts; merge it into the base first"),
        ({"rank": 1024}, "not by vLLM: LoRA rank 1024 is above its limit of 512"),
    ],
)  # fmt: skip
def test_the_artifact_says_whether_vllm_can_serve_it(
    tmp_path: Path, changes: dict[str, object], verdict_text: str
) -> None:
    """Or why not, and what to do."""
    lora: Lora = replace(A_LORA, **changes)  # type: ignore[arg-type]

    assert artifacts.servable(a_run(tmp_path, model=tmp_path, data=tmp_path, lora=lora)) == verdict_text


def test_the_card_shows_both_models(tmp_path: Path) -> None:
    """What it was made from, and base against tuned."""
    run = a_run(tmp_path, model=Path("/m"), data=Path("/d"))
    published = artifacts.Published(
        evaluation=EvaluationResult(
            examples=20, base_loss=3.5, tuned_loss=2.25, base_token_accuracy=0.25, tuned_token_accuracy=0.5,
            samples=(Sample(prompt="Hi", base="", tuned="Hello\nyou"),),
        ),
        computation="float32 weights, float32 computation on cpu", steps=8, final_loss=2.0, training_seconds=3.0,
    )  # fmt: skip
    artifacts.write_card(tmp_path, run, published)
    card = (tmp_path / "README.md").read_text()

    assert "| base model | `file:///m` |" in card
    assert "| adapter | LoRA rank 4, alpha 8, all-linear, standard |" in card
    assert "| loss | 3.5000 | 2.2500 |" in card
    assert "| loss on a general text | not measured | not measured |" in card
    assert "> Hi\n\n- base: (nothing)\n- tuned: Hello you" in card


def test_the_outcome_of_a_real_run_fits_a_termination_message(tmp_path: Path, llama: Path, data: Path) -> None:
    """With samples, artifacts and both evaluations."""
    run = changed(a_run(tmp_path, model=llama, data=data, prompts=("red cat", "one two", "north")))

    assert len(outcome_text(trained(run, tmp_path)).encode()) <= 4096
