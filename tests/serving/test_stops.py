"""Where vLLM stops with an adapter that brings a generation_config.json of its own."""

import json
from pathlib import Path

import pytest
import torch
from finetune_contract.engines import VLLM_OWN_STOPS
from finetune_trainer.chat.stops import write_stops
from transformers import AutoModelForCausalLM

from tests.serving.engine import vllm
from tests.serving.install import installed
from tests.serving.test_manifest import adapter
from tests.trainer.test_export import for_llama_cpp

pytestmark = [
    pytest.mark.serving,
    pytest.mark.skipif(not installed(), reason="make e2e-serving installs vLLM"),
    pytest.mark.filterwarnings("ignore"),
]

PROMPT = list(range(300, 310))


def test_vllm_stops_where_the_adapters_folder_says(tmp_path: Path) -> None:
    """At a token at which neither the base model nor its tokenizer stops; the base model alone would go on to the limit."""
    base = for_llama_cpp(tmp_path / "base")
    folder = adapter(tmp_path / "adapter", base, seed=1)
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)(torch.tensor([PROMPT])).logits
    likeliest = int(logits[0, -1].argmax())
    assert likeliest != 2
    write_stops(base, folder, {2, likeliest})

    with vllm(
        base, tmp_path, "--enable-lora", "--lora-modules", f"bot={folder}", VLLM_OWN_STOPS, str(folder)
    ) as server:
        _, text = server.post("/v1/completions", {"model": "base", "prompt": PROMPT, "max_tokens": 5, "temperature": 0})

    (choice,) = json.loads(text)["choices"]
    assert (choice["finish_reason"], choice["stop_reason"], choice["text"]) == ("stop", likeliest, "")
