"""DeepSpeed's ZeRO stages on two gloo ranks: they really shard, they learn what one process learns, and what they publish is whole."""

import os
import re
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_contract import Outcome, RunConfig
from finetune_contract.wire import dumps
from finetune_operator.local.binaries import cache_root
from finetune_trainer.process import verdict
from finetune_trainer.runtime import host_optimizer
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.trainer.cpu_ranks import ENVIRONMENT
from tests.trainer.running import DEADLINE_SECONDS, IN_PROCESS, free_port, losses, trained
from tests.trainer.tiny import a_run, conversations, tiny_model

pytestmark = IN_PROCESS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of very different lengths: the ranks' micro batches hold different numbers of trained tokens."""
    return conversations(tmp_path_factory.mktemp("data") / "train.jsonl", rows=60, longest=40)


@pytest.fixture(scope="module")
def cpu_adam() -> Path:
    """DeepSpeed's optimizer for the host, compiled as in the image, once for these versions; returns its folder."""
    versions = (f"{name}-{metadata.version(name).partition('+')[0]}" for name in ("deepspeed", "torch"))
    folder = cache_root() / "extensions" / "-".join((*versions, *host_optimizer.LEVELS))
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:  # whole or not at all
        environment = os.environ | ENVIRONMENT
        subprocess.run([sys.executable, host_optimizer.__file__, f"{made}/all"], env=environment, check=True)
        with suppress(OSError):  # another run was as fast
            Path(made, "all").rename(folder)
    return folder


@pytest.mark.parametrize(("method", "stage"), [("lora", 2), ("lora", 3), ("full", 3)])
def test_sharding_does_not_change_what_is_learned(
    tmp_path: Path, model: Path, data: Path, method: str, stage: int
) -> None:
    """The log says the stage that is in force; the loss curve, the evaluation and the published weights are one process's."""
    compare(tmp_path, model, data, method=method, stage=stage)


@pytest.mark.offload
@pytest.mark.parametrize(("method", "stage", "offload"), [("lora", 2, "optimizer"), ("full", 3, "all")])
def test_an_optimizer_on_the_host_learns_the_same(
    tmp_path: Path, model: Path, data: Path, cpu_adam: Path, method: str, stage: int, offload: str
) -> None:
    """DeepSpeed's own AdamW takes the place of torch's, and nothing else changes."""
    log = compare(tmp_path, model, data, method=method, stage=stage, offload=offload, extensions=cpu_adam)

    assert re.findall("AdamW on the host: (.*)", log) == ["compiled for " + best_level()]
    assert log.splitlines().count("an optimizer on the host") == 1


def best_level() -> str:
    """Return this machine's level of x86-64, as the kernel tells it."""
    flags = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split()
    return host_optimizer.level_of(frozenset(flags))


def compare(
    tmp_path: Path, model: Path, data: Path, *, method: str, stage: int, offload: str = "none",
    extensions: Path | None = None,
) -> str:  # fmt: skip
    """Train in one process and in two ranks, hold all that they say and publish side by side; returns rank 0's log."""
    rate = {"learning_rate": 5e-3 if method == "lora" else 5e-4}
    if method == "full":  # published in the dtype of its base, whatever DeepSpeed computes in
        model = stored_in_bfloat16(model, tmp_path / "base")
    whole = a_run(tmp_path / "whole", model=model, data=data, method=method, **rate)
    sharded = a_run(
        tmp_path / "sharded", model=model, data=data, method=method, gpus_per_replica=2, micro_batch_size=2,
        zero_stage=stage, offload=offload, **rate,
    )  # fmt: skip
    alone = trained(whole, tmp_path / "whole")
    outcome, log = in_two_ranks(sharded, tmp_path / "sharded", extensions)

    assert f"2 processes, DeepSpeed at ZeRO stage {stage}, offload: {offload}" in log
    assert outcome.reason == "Published"
    assert losses(tmp_path / "sharded") == pytest.approx(losses(tmp_path / "whole"), abs=1e-4)
    assert outcome.evaluation is not None
    assert alone.evaluation is not None
    assert outcome.evaluation.tuned_loss == pytest.approx(alone.evaluation.tuned_loss, abs=1e-4)
    assert outcome.evaluation.base_loss == pytest.approx(alone.evaluation.base_loss, abs=1e-5)
    assert outcome.evaluation.samples[0].base == alone.evaluation.samples[0].base
    assert torch.allclose(_answer(tmp_path / "sharded", model), _answer(tmp_path / "whole", model), atol=2e-2)
    if method == "full":
        published, alike = (tmp_path / name / "out" / "model" for name in ("sharded", "whole"))
        assert dtypes(published) == dtypes(alike) == dtypes(model)
        assert (published / "config.json").read_text() == (alike / "config.json").read_text()
    return log


def stored_in_bfloat16(model: Path, folder: Path) -> Path:
    """The same model, as most hubs hold them."""
    AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return folder


def dtypes(folder: Path) -> dict[str, str]:
    """Return how each tensor of a folder is stored, in safetensors' words."""
    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        return {name: weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118 - no mapping


def test_a_float32_base_is_published_from_float32_masters(tmp_path: Path, model: Path, data: Path) -> None:
    """DeepSpeed computes in bfloat16 copies; what is published are the masters, so small updates are not rounded away."""
    run = a_run(
        tmp_path, model=model, data=data, method="full", precision="bf16", learning_rate=5e-4, gpus_per_replica=2,
        micro_batch_size=2, zero_stage=2, prompts=(),
    )  # fmt: skip
    outcome, _log = in_two_ranks(run, tmp_path)

    assert outcome.reason == "Published"
    published = load_file(tmp_path / "out" / "model" / "model.safetensors")
    assert {value.dtype for value in published.values()} == {torch.float32}
    assert not torch.equal(published["model.norm.weight"], published["model.norm.weight"].bfloat16().float())


@pytest.mark.parametrize(
    ("method", "stage", "changes"),
    [
        ("lora", 2, {"dropout": 0.1}),
        ("lora", 3, {}),
        ("full", 2, {"precision": "bf16"}),
        ("full", 3, {"precision": "bf16"}),
    ],
)
def test_a_sharded_run_that_is_resumed_is_the_uninterrupted_one(
    tmp_path: Path, model: Path, data: Path, method: str, stage: int, changes: dict[str, Any]
) -> None:
    """Both ranks are evicted in step 3 of 6: DeepSpeed's own checkpoint has masters, moments and the place in the rows."""
    sharded: dict[str, Any] = {
        "method": method, "max_steps": 6, "prompts": (), "baseline": False, "gpus_per_replica": 2, "micro_batch_size": 1,
        "gradient_accumulation_steps": 2, "zero_stage": stage, **changes,
    }  # fmt: skip
    whole, cut = (a_run(tmp_path / name, model=model, data=data, **sharded) for name in ("whole", "cut"))
    in_two_ranks(whole, tmp_path / "whole")
    stopped, _log = in_two_ranks(cut, tmp_path / "cut", SIGTERM_AT="3", expected="Preempted")
    _resumed, log = in_two_ranks(replace(cut, attempt=1), tmp_path / "cut" / "again")

    assert stopped.checkpoint_step == 3
    assert "resuming from attempt-0-step-3" in log
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert published(tmp_path / "cut") == published(tmp_path / "whole")


def published(folder: Path) -> dict[str, tuple[torch.dtype, bytes]]:
    """Return dtype and bits of each tensor that a run published."""
    (file,) = [path for kind in ("adapter", "model") for path in (folder / "out" / kind).glob("*.safetensors")]
    return {name: (value.dtype, value.view(torch.uint8).numpy().tobytes()) for name, value in load_file(file).items()}


def _answer(folder: Path, base: Path) -> torch.Tensor:
    """Load what a run published, as a user would, and return its logits."""
    published: Any
    if (folder / "out" / "adapter").is_dir():
        published = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder / "out" / "adapter")
    else:
        published = AutoModelForCausalLM.from_pretrained(folder / "out" / "model")
    with torch.no_grad():
        return published.eval()(torch.arange(20)[None]).logits.float()


def in_two_ranks(
    run: RunConfig, folder: Path, extensions: Path | None = None, *, expected: str = "Succeeded", **environment: str
) -> tuple[Outcome, str]:
    """Run two workers as torchrun would start them; returns the replica's verdict, a success unless said, and rank 0's log."""
    port = free_port()
    workspace = folder / "workspace"
    workspace.mkdir(parents=True)
    (folder / "run.json").write_text(dumps(run))
    shared = os.environ | ENVIRONMENT | {
        "FINETUNE_DEVICE": "cpu", "FINETUNE_ALLOW_FILE": "1", "FINETUNE_RUN_CONFIG": str(folder / "run.json"),
        "FINETUNE_WORKSPACE": str(workspace), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2", **({host_optimizer.FOLDER: str(extensions)} if extensions else {}),
        **environment,
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.trainer.cpu_ranks"]
    logs = [folder / f"log-{rank}" for rank in (0, 1)]
    ranks = []
    try:
        for rank, log in enumerate(logs):
            mine = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            with log.open("wb") as sink:
                ranks.append(
                    subprocess.Popen(command, env=shared | mine, cwd=ROOT, stdout=sink, stderr=subprocess.STDOUT)
                )
        for process in ranks:
            process.wait(timeout=DEADLINE_SECONDS)
    finally:
        for process in ranks:
            if process.poll() is None:
                process.kill()
                process.wait()
    said = verdict.read(workspace / "run")
    texts = [log.read_text() for log in logs]
    assert (said and said.outcome) == expected, "\n".join(f"rank {rank}:\n{texts[rank][-4000:]}" for rank in (0, 1))
    return said, texts[0]
