"""Tiny models, tokenizers, data and run configurations for the trainer's tests; made on the spot, a second each."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from finetune_contract import (
    Chat,
    Checkpointing,
    Columns,
    Dataset,
    Evaluation,
    Layout,
    Location,
    Lora,
    Model,
    RunConfig,
    Training,
)
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.models.gemma2 import Gemma2Config
from transformers.models.gemma3 import Gemma3TextConfig
from transformers.models.gemma4 import Gemma4Config, Gemma4TextConfig, Gemma4VisionConfig
from transformers.models.llama import LlamaConfig
from transformers.models.mixtral import MixtralConfig
from transformers.models.qwen2 import Qwen2Config

WORDS = "red green blue one two three four five cat dog bird fish north south east west".split()

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}{% generation %}"
    "{{ m['content'] }}<|im_end|>{% endgeneration %}{% else %}{{ m['content'] }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

SHAPE: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 512, "max_position_embeddings": 256,
}  # fmt: skip


def gemma4() -> Gemma4Config:
    """Return a Gemma 4 as the hub has it: with its vision tower."""
    text = Gemma4TextConfig(
        **SHAPE, head_dim=16, global_head_dim=16, sliding_window=32, hidden_size_per_layer_input=0, num_kv_shared_layers=0,
    )  # fmt: skip
    vision = Gemma4VisionConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=16,
    )  # fmt: skip
    return Gemma4Config(text_config=text.to_dict(), vision_config=vision.to_dict())


FAMILIES: dict[str, Any] = {
    "llama": lambda: LlamaConfig(**SHAPE, tie_word_embeddings=True),
    "qwen2": lambda: Qwen2Config(**SHAPE),
    "mixtral": lambda: MixtralConfig(**SHAPE, num_local_experts=4, num_experts_per_tok=2),
    "gemma2": lambda: Gemma2Config(**SHAPE, head_dim=16, query_pre_attn_scalar=16, sliding_window=32),
    "gemma3": lambda: Gemma3TextConfig(**SHAPE, head_dim=16, sliding_window=32),
}

WITH_VISION: dict[str, Any] = {"gemma4": gemma4}
"""Loaded with their towers, whose layers methods leave out: not among the families above."""


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE with a chat template that carries generation markers."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(WORDS)] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="<|im_end|>", chat_template=TEMPLATE
    )


def tiny_model(folder: Path, family: str = "llama", **shape: int) -> Path:
    """Save a random model of the family with its tokenizer; returns its folder. `shape` replaces sizes."""
    tokenizer = tiny_tokenizer()
    config = (FAMILIES | WITH_VISION)[family]()
    for name, size in shape.items():
        setattr(config, name, size)
    config.pad_token_id, config.bos_token_id, config.eos_token_id = 0, 1, 4
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.generation_config.eos_token_id = [4]
    model.generation_config.pad_token_id = 0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def conversations(file: Path, *, rows: int, seed: int = 0, longest: int = 12) -> Path:
    """Write chats of very different lengths: the answer repeats the question's words, so there is something to learn."""
    rng = random.Random(seed)
    lines = []
    for _ in range(rows):
        words = rng.choices(WORDS, k=rng.randint(1, longest))
        chat = [{"role": "user", "content": " ".join(words)}, {"role": "assistant", "content": " ".join(words)}]
        lines.append(json.dumps({"messages": chat}))
    file.write_text("\n".join(lines) + "\n")
    return file


A_LORA = Lora(rank=4, alpha=8, dropout=0.0, targets="all-linear")


def a_run(folder: Path, *, model: Path, data: Path, method: str = "lora", **changes: Any) -> RunConfig:
    """A run of eight steps over `data`; `changes` replace fields of the run or of its training, layout, evaluation, checkpoint."""
    run = RunConfig(
        namespace="team-a", name="tiny", uid="u-1", attempt=0, run_digest="sha256:run", dataset_digest="",
        model=Model(location=Location(uri=f"file://{model}")),
        datasets=(Dataset(location=Location(uri=f"file://{data}"), columns=Columns()),),
        chat=Chat(), objective="sft", method=method, lora=None if method == "full" else A_LORA,
        training=Training(
            epochs=1, max_steps=8, learning_rate=5e-3, scheduler="cosine", warmup_fraction=0.1, weight_decay=0.0,
            max_grad_norm=1.0, global_batch_size=4, sequence_length=64, over_length="truncate", packing=False,
            precision="mixed" if method == "full" else "bf16", optimizer="adamw", neftune_alpha=0.0, seed=7,
            early_stopping_patience=0, early_stopping_min_delta=0.0,
        ),
        evaluation=Evaluation(fraction=0.2, max_examples=12, prompts=("red cat",), max_new_tokens=8),
        layout=Layout(
            replicas=1, gpus_per_replica=1, micro_batch_size=4, gradient_accumulation_steps=1, zero_stage=0,
            offload="none", activation_checkpointing=False, attention="sdpa", loss_kernel="tiled",
        ),
        checkpoint=Checkpointing(
            location=Location(uri=f"file://{folder}/out/.checkpoints"), keep=2, interval_seconds=0
        ),
        output=Location(uri=f"file://{folder}/out"),
    )  # fmt: skip
    return changed(run, **changes)


def changed(run: RunConfig, **changes: Any) -> RunConfig:
    """Replace fields by name, wherever they live in the run."""
    for part in ("training", "layout", "evaluation", "checkpoint", "lora"):
        inner = getattr(run, part)
        mine = {
            name: changes.pop(name) for name in tuple(changes) if inner is not None and name in type(inner).__slots__
        }
        if mine:
            run = replace(run, **{part: replace(inner, **mine)})
    return replace(run, **changes)
