"""What never happens: a key leaves the Pod, a pickle is loaded, a model's code runs unasked."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from finetune_contract import Artifact, Location, Outcome
from finetune_trainer.errors import UserError
from finetune_trainer.preflight.__main__ import without_secrets
from finetune_trainer.process import verdict

from tests.trainer.running import IN_PROCESS, PACED, container, free_port, trained
from tests.trainer.tiny import a_run, changed, conversations, tiny_model

pytestmark = IN_PROCESS

CANARY = "canary-4f1d9c2b7a"
MOUNTED = f"{CANARY}-in-a-file"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conversations(tmp_path_factory.mktemp("data") / "train.jsonl", rows=60)


def test_no_secret_leaves_the_pod(tmp_path: Path, llama: Path, data: Path) -> None:
    """Keys are in no argument list of any process; in no log, outcome, manifest, card or checkpoint.

    Those of a mounted Secret are in no process's environment either, which whoever may `exec` could read.
    """
    secrets = tmp_path / "secret"
    secrets.mkdir()
    (secrets / "HF_TOKEN").write_text(MOUNTED)
    run = a_run(
        tmp_path, model=llama, data=data, prompts=(), max_steps=20, gpus_per_replica=2, micro_batch_size=2,
        interval_seconds=1,
    )  # fmt: skip
    environment = PACED | {"AWS_SECRET_ACCESS_KEY": CANARY, "HF_TOKEN": CANARY, "FINETUNE_SECRETS": f"hub={secrets}"}
    with container(run, tmp_path / "pod", **environment, MASTER_PORT=free_port()) as pod:
        pod.wait_for(lambda report: report.phase == "training" and report.step >= 1)
        processes = _tree(pod.process.pid)
        arguments = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes]
        environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in processes]
        code, _outcome = pod.wait()
    left = [path for path in tmp_path.rglob("*") if path.is_file() and secrets not in path.parents]
    said = {path.name for path in left}

    assert code == 0
    assert {_verb(argument) for argument in arguments} >= {"train", "keep", "torch.distributed.run", "worker"}
    assert [argument for argument in arguments if CANARY.encode() in argument] == []
    assert [found[:80] for found in environments if MOUNTED.encode() in found] == []
    assert said > {
        "log", "termination", "run.json", "finetune-manifest.json", "README.md", "adapter_config.json", "trainer_state.json",
        "COMPLETE", "optimizer.pt",
    }  # fmt: skip
    assert [str(path) for path in left if CANARY.encode() in path.read_bytes()] == []


def _verb(arguments: bytes) -> str:
    """Return what a process was started as."""
    words = arguments.decode().split("\0")
    module, first = words[words.index("-m") + 1 :][:2]
    return first if module == "finetune_trainer" else module


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
        (folder / "model.safetensors").unlink()
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


def test_a_key_that_is_a_word_in_an_address_is_blotted_out_of_sentences_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small S3 servers let people choose their key ids; the operator reads the addresses and passes them on."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "finetune")
    artifact = Artifact(kind="adapter", uri="s3://finetune/out/adapter", digest="sha256:" + "0" * 64, size_bytes=1)
    outcome = Outcome(outcome="Succeeded", reason="AlreadyPublished", message="key finetune", artifacts=(artifact,))

    cleaned = without_secrets(outcome)

    assert (cleaned.message, cleaned.artifacts) == ("key <AWS_ACCESS_KEY_ID>", (artifact,))
