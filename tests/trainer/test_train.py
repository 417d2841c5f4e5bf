"""Every admitted combination on tiny models, in one process, each asserted by its effect."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_trainer.train import Session, carry_out, prepare

from tests.trainer.running import IN_PROCESS, bench, local_node, losses
from tests.trainer.tiny import FAMILIES, a_run, conversations, tiny_model

pytestmark = IN_PROCESS

PER_LAYER = {"q_proj": 64 + 64, "k_proj": 64 + 32, "v_proj": 64 + 32, "o_proj": 64 + 64}
MLP = {"gate_proj": 64 + 128, "up_proj": 64 + 128, "down_proj": 128 + 64}
"""in + out of each linear layer of tiny.SHAPE: a LoRA of rank r adds r x (in + out)."""

ATTENTION_ONLY = 4 * 2 * sum(PER_LAYER.values())
ALL_LINEAR = ATTENTION_ONLY + 4 * 2 * sum(MLP.values())
EXPERTS = 4 * 2 * 4 * ((64 + 2 * 128) + (128 + 64))
"""Four experts a layer; gate and up are one tensor."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: tiny_model(tmp_path_factory.mktemp(family), family) for family in FAMILIES}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conversations(tmp_path_factory.mktemp("data") / "train.jsonl", rows=60)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny matrices: a second thread only waits for the first."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


COMBINATIONS: list[tuple[str, str, dict[str, Any], int]] = [
    ("llama", "lora", {}, ALL_LINEAR),
    ("llama", "lora", {"targets": "attention"}, ATTENTION_ONLY),
    ("llama", "lora", {"targets": "custom", "target_modules": ("o_proj", "down_proj")}, 4 * 2 * 320),
    ("llama", "lora", {"variant": "rslora", "alpha": 4}, ALL_LINEAR),
    ("llama", "lora", {"variant": "dora"}, ALL_LINEAR + 2 * (64 + 32 + 32 + 64 + 128 + 128 + 64)),
    ("llama", "lora", {"modules_to_save": ("embed_tokens",)}, ALL_LINEAR + 512 * 64),
    ("llama", "lora", {"neftune_alpha": 5.0, "dropout": 0.1}, ALL_LINEAR),
    ("llama", "lora", {"activation_checkpointing": True}, ALL_LINEAR),
    ("llama", "lora", {"packing": True}, ALL_LINEAR),
    ("llama", "lora", {"optimizer": "adamw-8bit"}, ALL_LINEAR),
    ("llama", "lora", {"scheduler": "linear"}, ALL_LINEAR),
    ("llama", "lora", {"scheduler": "constant"}, ALL_LINEAR),
    ("llama", "qlora", {}, ALL_LINEAR),
    ("llama", "qlora", {"variant": "dora"}, ALL_LINEAR + 2 * (64 + 32 + 32 + 64 + 128 + 128 + 64)),
    ("llama", "full", {}, 106_816),
    ("llama", "full", {"precision": "bf16"}, 106_816),
    ("llama", "full", {"activation_checkpointing": True, "optimizer": "adamw-8bit"}, 106_816),
    ("qwen2", "lora", {}, ALL_LINEAR),
    ("qwen2", "qlora", {}, ALL_LINEAR),
    ("qwen2", "full", {}, 139_840),
    ("mixtral", "lora", {}, ATTENTION_ONLY),
    ("mixtral", "lora", {"experts": True}, ATTENTION_ONLY + EXPERTS),
    ("mixtral", "qlora", {}, ATTENTION_ONLY),
    ("gemma2", "lora", {}, ALL_LINEAR),
    ("gemma3", "lora", {}, ALL_LINEAR),
    ("gemma3", "qlora", {}, ALL_LINEAR),
]


@pytest.mark.parametrize(
    ("family", "method", "changes", "trainable"),
    COMBINATIONS,
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else str(value),
)
def test_the_method_does_what_it_says(
    tmp_path: Path,
    models: dict[str, Path],
    data: Path,
    family: str,
    method: str,
    changes: dict[str, Any],
    trainable: int,
) -> None:
    """The parameters that the plan counts are trained, the base stays bit for bit, and the held-out loss falls."""
    run = a_run(tmp_path, model=models[family], data=data, method=method, max_steps=12, prompts=(), **changes)
    with local_node(tmp_path):
        tools = bench(tmp_path, run)
        session = prepare(run, tools)
        counted = sum(parameter.numel() for parameter in session.trainer.model.parameters() if parameter.requires_grad)
        frozen = _frozen(session)
        outcome = carry_out(run, tools, session)

    assert counted == trainable
    assert (method == "full") == (frozen == {})
    assert all(torch.equal(now, frozen[name]) for name, now in _frozen(session).items())
    assert outcome.evaluation is not None
    assert outcome.evaluation.base_loss is not None
    assert outcome.evaluation.tuned_loss < outcome.evaluation.base_loss - 0.02
    assert len(losses(tmp_path)) == 12


def _frozen(session: Session) -> dict[str, torch.Tensor]:
    parameters = session.trainer.model.named_parameters()
    return {name: parameter.detach().clone() for name, parameter in parameters if not parameter.requires_grad}
