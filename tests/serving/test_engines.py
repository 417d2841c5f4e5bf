"""The table of engines against the real vLLM and llama.cpp: one server, many adapters; a merged model; a GGUF."""

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_contract.engines import ENGINES, Trait, largest_rank, servable_by, traits_of
from finetune_trainer.exporting.export import export
from finetune_trainer.exporting.gguf import CONVERTER
from finetune_trainer.publishing.adapter_facts import tensor_names
from peft import AdaLoraConfig, LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.serving.engine import Vllm, vllm
from tests.serving.install import installed
from tests.trainer.test_export import asked, for_llama_cpp, published

pytestmark = [
    pytest.mark.serving,
    pytest.mark.usefixtures("local_files"),
    pytest.mark.skipif(not installed(), reason="make e2e-serving installs vLLM"),
    pytest.mark.filterwarnings("ignore"),
]

LORA: dict[str, Any] = {"r": 8, "lora_alpha": 16, "task_type": "CAUSAL_LM", "target_modules": ["q_proj", "v_proj"]}
ADAPTERS: dict[str, Any] = {
    "plain": LoraConfig(**LORA),
    "rslora": LoraConfig(**LORA, use_rslora=True),
    "alpha-pattern": LoraConfig(**LORA, alpha_pattern={"v_proj": 64}),
    "rank-pattern": LoraConfig(**LORA, rank_pattern={"v_proj": 16}),
    "some-layers": LoraConfig(**LORA, layers_to_transform=[1]),
    "rank-32": LoraConfig(**{**LORA, "r": 32}),
    "rank-1024": LoraConfig(**{**LORA, "r": 1024}),
    "head": LoraConfig(**{**LORA, "target_modules": ["q_proj", "lm_head"]}),
    "dora": LoraConfig(**LORA, use_dora=True),
    "adalora": AdaLoraConfig(
        task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], init_r=6, target_r=4, tinit=1, tfinal=1, total_step=10,
        lora_alpha=16,
    ),
    "whole-head": LoraConfig(**LORA, modules_to_save=["lm_head"]),
    "lora-bias": LoraConfig(**LORA, lora_bias=True),
    "bias": LoraConfig(**LORA, bias="lora_only"),
    "tokens": LoraConfig(**LORA, trainable_token_indices=[5, 6]),
    "pissa": LoraConfig(**LORA, init_lora_weights="pissa"),
    "alora": LoraConfig(**LORA, alora_invocation_tokens=[5]),
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return for_llama_cpp(tmp_path_factory.mktemp("serving") / "base")


@pytest.fixture(scope="module")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each adapter with random weights, in a folder."""
    made = {}
    for name, config in ADAPTERS.items():
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
        torch.manual_seed(1)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if "lora_" in key and "magnitude" not in key:
                    parameter.copy_(torch.randn_like(parameter) * 0.1)
        made[name] = tmp_path_factory.mktemp("adapters") / name
        model.save_pretrained(made[name], save_embedding_layers=False)
    return made


@pytest.fixture(scope="module")
def server(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vllm]:
    with vllm(
        base, tmp_path_factory.mktemp("vllm"), "--enable-lora", "--max-lora-rank", "32", "--max-loras", "2"
    ) as running:
        yield running


def reference(base: Path, adapter: Path | None, tokens: list[int]) -> list[float]:
    """Return PEFT's log-probabilities of a prompt's tokens after the first."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tuned = PeftModel.from_pretrained(model, adapter) if adapter is not None else model
    with torch.no_grad():
        told = torch.log_softmax(tuned.eval()(torch.tensor([tokens])).logits[0], -1)
    return [float(told[place, token]) for place, token in enumerate(tokens[1:])]


@pytest.mark.parametrize("name", ADAPTERS)
def test_vllm_does_with_an_adapter_what_the_table_says(
    name: str, base: Path, adapters: dict[str, Path], server: Vllm
) -> None:
    """What it serves answers as in PEFT; what it does not serve is refused; a rank needs --max-lora-rank."""
    described = json.loads((adapters[name] / "adapter_config.json").read_text())
    rank = largest_rank(described)
    answer = next(one for one in servable_by(traits_of(described), rank) if one.engine == "vllm")
    tokens = AutoTokenizer.from_pretrained(base)("red green blue one two three cat dog")["input_ids"]

    refused = server.load(name, adapters[name])

    assert bool(refused) == (not answer.serves), (refused, answer)
    if answer.serves:
        found, wanted = server.log_probabilities(name, tokens), reference(base, adapters[name], tokens)
        assert max(abs(a - b) for a, b in zip(found, wanted, strict=True)) < 1e-3
        plain = reference(base, None, tokens)
        assert max(abs(a - b) for a, b in zip(found, plain, strict=True)) > 1e-2


@pytest.mark.parametrize("name", ADAPTERS)
def test_llama_cpp_converts_what_the_table_says(
    name: str, base: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    """Its converter refuses what the table says it refuses. What it distorts it converts: that is why we never use it."""
    described = json.loads((adapters[name] / "adapter_config.json").read_text())
    traits = traits_of(described)
    engine = next(one for one in ENGINES if one.name == "llama.cpp")
    source = Path(util.find_spec(CONVERTER).submodule_search_locations[0]) / "llama.cpp"  # type: ignore[union-attr, index]
    command = [
        sys.executable, source / "convert_lora_to_gguf.py", "--base", base, "--outtype", "f16", "--outfile",
        tmp_path / "lora.gguf", adapters[name],
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    by_converter = (traits & engine.refuses) - {Trait.HEAD}  # its engine refuses that, for tied embeddings
    if not any("bias" in name for name in tensor_names(adapters[name])):
        by_converter -= {Trait.BIASES}  # asked for, of a model that has none
    assert (done.returncode != 0) == bool(by_converter), done.stderr[-2000:]


def test_a_merged_model_is_served_by_vllm(base: Path, tmp_path: Path) -> None:
    """An rslora adapter on its base, merged: no option is needed, and it answers as PEFT does."""
    run = published(tmp_path, base, LoraConfig(**LORA, use_rslora=True), size=0.1)
    export(asked(run, "merged"), tmp_path / "workspace")
    tokens = AutoTokenizer.from_pretrained(base)("red green blue one two three cat dog")["input_ids"]

    with vllm(tmp_path / "out/merged", tmp_path) as running:
        found = running.log_probabilities("base", tokens)

    wanted = reference(base, tmp_path / "out/adapter", tokens)
    assert max(abs(a - b) for a, b in zip(found, wanted, strict=True)) < 0.05
