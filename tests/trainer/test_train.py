"""Every admitted combination on tiny models, in one process, each asserted by its effect: shapes x methods x objectives, then variants."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from finetune_contract import RunConfig
from finetune_operator.api.spec import LoraSpec
from finetune_operator.planning.models.architecture import architecture
from finetune_operator.planning.search import trainable_parameters
from finetune_trainer.training.session import Session
from finetune_trainer.training.train import carry_out, prepare

from tests.trainer.running import IN_PROCESS, bench, local_node, losses
from tests.trainer.tiny import FAMILIES, a_run, conversations, tiny_model

pytestmark = IN_PROCESS

LINEARS = {"llama": 14, "qwen2": 14, "mixtral": 8, "gemma2": 14, "gemma3": 14}
"""Layers that qlora packs, in two decoder layers: all linear ones, without the head and Mixtral's routers."""

STACKED = {"mixtral": 4}
"""Tensors of stacked experts, which it packs too."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: tiny_model(tmp_path_factory.mktemp(family), family) for family in FAMILIES}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Rows by objective: conversations, and plain texts of the same words."""
    folder = tmp_path_factory.mktemp("data")
    chats = conversations(folder / "chats.jsonl", rows=60)
    turns = [json.loads(line)["messages"] for line in chats.read_text().splitlines()]
    texts = [json.dumps({"text": f"{question['content']} {answer['content']}"}) for question, answer in turns]
    (folder / "texts.jsonl").write_text("\n".join(texts) + "\n")
    return {"sft": chats, "cpt": folder / "texts.jsonl"}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny matrices: a second thread only waits for the first."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


VARIANTS: list[tuple[str, str, dict[str, Any]]] = [
    ("llama", "lora", {"targets": "attention"}),
    ("llama", "lora", {"targets": "custom", "target_modules": ("o_proj", "down_proj")}),
    ("llama", "lora", {"variant": "rslora", "alpha": 4}),
    ("llama", "lora", {"variant": "dora"}),
    ("llama", "lora", {"variant": "adalora", "learning_rate": 5e-2}),
    ("llama", "lora", {"modules_to_save": ("embed_tokens",)}),
    ("qwen2", "lora", {"modules_to_save": ("embed_tokens", "lm_head")}),
    ("llama", "lora", {"neftune_alpha": 5.0, "dropout": 0.1}),
    ("llama", "lora", {"activation_checkpointing": True}),
    ("llama", "lora", {"packing": True}),
    ("llama", "lora", {"packing": True, "objective": "cpt"}),
    ("llama", "lora", {"optimizer": "adamw-8bit"}),
    ("llama", "lora", {"scheduler": "linear", "weight_decay": 0.1, "max_grad_norm": 0.5}),
    ("llama", "lora", {"scheduler": "constant"}),
    ("llama", "qlora", {"variant": "dora"}),
    ("llama", "qlora", {"variant": "adalora", "learning_rate": 5e-2}),
    ("llama", "full", {"precision": "bf16"}),
    ("llama", "full", {"activation_checkpointing": True, "optimizer": "adamw-8bit"}),
    ("mixtral", "lora", {"experts": True}),
    ("mixtral", "lora", {"experts": True, "variant": "rslora", "alpha": 4}),
]
"""Each option once, on the shape where it could go wrong."""

COMBINATIONS = [
    (family, method, {"objective": objective})
    for family in FAMILIES
    for method in ("lora", "qlora", "full")
    for objective in ("sft", "cpt")
] + VARIANTS


@pytest.mark.parametrize(
    ("family", "method", "changes"),
    COMBINATIONS,
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else str(value),
)
def test_the_method_does_what_it_says(
    tmp_path: Path,
    models: dict[str, Path],
    data: dict[str, Path],
    family: str,
    method: str,
    changes: dict[str, Any],
) -> None:
    """The planner's count is trained, the base stays bit for bit, layers are packed as said, and the held-out loss falls."""
    rows = data[changes.get("objective", "sft")]
    run = a_run(tmp_path, model=models[family], data=rows, method=method, max_steps=12, prompts=(), **changes)
    with local_node(tmp_path):
        tools = bench(tmp_path, run)
        session = prepare(run, tools)
        counted = sum(
            parameter.numel() for parameter in session.loop.trainer.model.parameters() if parameter.requires_grad
        )
        frozen = _frozen(session)
        outcome = carry_out(run, tools, session)

    assert counted == planned(models[family], run)
    assert packed(session.loop.trainer.model) == (
        (LINEARS[family], STACKED.get(family, 0)) if method == "qlora" else (0, 0)
    )
    assert (method == "full") == (frozen == {})
    assert all(torch.equal(now, frozen[name]) for name, now in _frozen(session).items())
    assert outcome.evaluation is not None
    assert outcome.evaluation.base_loss is not None
    assert outcome.evaluation.tuned_loss < outcome.evaluation.base_loss - 0.02
    assert len(losses(tmp_path)) == 12
    # bitsandbytes keeps states of less than 4096 numbers, as those of these adapters, in float32.
    assert has_packed_states(session) == (method == "full" and run.training.optimizer == "adamw-8bit")


def planned(model: Path, run: RunConfig) -> int:
    """Return how many parameters the planner says that the run trains."""
    shape, lora = architecture(json.loads((model / "config.json").read_text())), run.lora
    if lora is None:
        return shape.num_parameters
    spec = LoraSpec(
        rank=lora.rank, alpha=lora.alpha, targets=lora.targets, target_modules=list(lora.target_modules) or None,
        experts=lora.experts, modules_to_save=list(lora.modules_to_save) or None, variant=lora.variant,
    )  # fmt: skip
    return trainable_parameters(shape, run.method, spec)


def packed(model: torch.nn.Module) -> tuple[int, int]:
    """Return how many linear layers and how many stacks of experts hold NF4 codes, two in a byte, with nested scales."""
    linears = [module.weight for module in model.modules() if type(module) is Linear4bit]
    assert all((w.dtype, w.quant_state.quant_type, w.quant_state.nested) == (torch.uint8, "nf4", True) for w in linears)
    stacks = [parameter for name, parameter in model.named_parameters() if "experts.parametrizations." in name]
    assert all(parameter.dtype == torch.uint8 for parameter in stacks)
    return len(linears), len(stacks)


def has_packed_states(session: Session) -> bool:
    """Say whether the optimizer keeps states of one byte."""
    states = session.loop.trainer.optimizer.state.values()
    return any(torch.is_tensor(value) and value.dtype == torch.uint8 for state in states for value in state.values())


def _frozen(session: Session) -> dict[str, torch.Tensor]:
    parameters = session.loop.trainer.model.named_parameters()
    return {name: parameter.detach().clone() for name, parameter in parameters if not parameter.requires_grad}
