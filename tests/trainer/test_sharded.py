"""DeepSpeed's ZeRO stages on two gloo ranks: they really shard, they learn what one process learns, and what they publish is whole."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_trainer import verdict
from finetune_trainer.contract import Outcome, RunConfig
from finetune_trainer.wire import dumps
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tests.trainer.cpu_ranks import ENVIRONMENT
from tests.trainer.running import DEADLINE_SECONDS, IN_PROCESS, losses, trained
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


@pytest.mark.parametrize(("method", "stage"), [("lora", 2), ("lora", 3), ("full", 3)])
def test_sharding_does_not_change_what_is_learned(
    tmp_path: Path, model: Path, data: Path, method: str, stage: int
) -> None:
    """The log says the stage that is in force; the loss curve, the evaluation and the published weights are one process's."""
    rate = {"learning_rate": 5e-3 if method == "lora" else 5e-4}
    whole = a_run(tmp_path / "whole", model=model, data=data, method=method, **rate)
    sharded = a_run(
        tmp_path / "sharded", model=model, data=data, method=method, gpus_per_replica=2, micro_batch_size=2,
        zero_stage=stage, **rate,
    )  # fmt: skip
    alone = trained(whole, tmp_path / "whole")
    outcome, log = in_two_ranks(sharded, tmp_path / "sharded")

    assert f"2 processes, DeepSpeed at ZeRO stage {stage}, offload: none" in log
    assert (outcome.outcome, outcome.reason) == ("Succeeded", "Published"), log[-3000:]
    assert losses(tmp_path / "sharded") == pytest.approx(losses(tmp_path / "whole"), abs=1e-4)
    assert outcome.evaluation is not None
    assert alone.evaluation is not None
    assert outcome.evaluation.tuned_loss == pytest.approx(alone.evaluation.tuned_loss, abs=1e-4)
    assert outcome.evaluation.base_loss == pytest.approx(alone.evaluation.base_loss, abs=1e-5)
    assert outcome.evaluation.samples[0].base == alone.evaluation.samples[0].base
    assert torch.allclose(_answer(tmp_path / "sharded", model), _answer(tmp_path / "whole", model), atol=2e-2)


def _answer(folder: Path, base: Path) -> torch.Tensor:
    """Load what a run published, as a user would, and return its logits."""
    published: Any
    if (folder / "out" / "adapter").is_dir():
        published = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder / "out" / "adapter")
    else:
        published = AutoModelForCausalLM.from_pretrained(folder / "out" / "model")
    with torch.no_grad():
        return published.eval()(torch.arange(20)[None]).logits.float()


def in_two_ranks(run: RunConfig, folder: Path) -> tuple[Outcome, str]:
    """Run two workers as torchrun would start them; returns the replica's verdict and rank 0's log."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    workspace = folder / "workspace"
    workspace.mkdir(parents=True)
    (folder / "run.json").write_text(dumps(run))
    shared = os.environ | ENVIRONMENT | {
        "FINETUNE_DEVICE": "cpu", "FINETUNE_ALLOW_FILE": "1", "FINETUNE_RUN_CONFIG": str(folder / "run.json"),
        "FINETUNE_WORKSPACE": str(workspace), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
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
    assert said is not None, logs[0].read_text()[-3000:]
    return said, logs[0].read_text()
