"""Tokenizers, models, rows and configurations for tests of storage, data, preflight and preview; no torch."""

import json
import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finetune_contract import Chat, Dataset, Evaluation, Location, Model, PreflightConfig
from finetune_trainer.chat import Encoder, ready_tokenizer
from finetune_trainer.chat.encoding import IGNORED
from finetune_trainer.data.prepare import Prepared, prepare
from finetune_trainer.data.request import DataRequest
from finetune_trainer.data.tokenised import read_rows
from finetune_trainer.errors import UserError
from finetune_trainer.preflight.examine import examine
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

SPECIALS = ["<pad>", "<s>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "[INST]", "[/INST]"]
BODY = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer(template: str | None = BODY, *, eos: str = "<|im_end|>", **special: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE that knows a few words."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(["hello how are you fine thanks red green blue"] * 8, trainer)
    names = {"pad_token": "<pad>", "eos_token": eos} | special
    return PreTrainedTokenizerFast(tokenizer_object=inner, chat_template=template, **names)


def letters(template: str | None) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are letters and </s>: it has no marks, and no token to spare."""
    vocabulary = {letter: number for number, letter in enumerate(["</s>", *string.printable])}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.add_special_tokens(["</s>"])
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", chat_template=template)


def model(
    folder: Path, *, stops: list[int] | None = None, made: PreTrainedTokenizerFast | None = None, **config: Any
) -> Path:
    """A folder that looks like a small Llama: configuration, tokenizer, one safetensors file."""
    (made or tokenizer()).save_pretrained(folder)
    shape = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 8, "intermediate_size": 16,
        "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 400, "max_position_embeddings": 512,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(shape | config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": stops or [4]}))
    save_file(llama_tensors(), folder / "model.safetensors")
    return folder


def llama_tensors() -> dict[str, Any]:
    """The weights of the small Llama, all zero."""
    shapes = {
        "self_attn.q_proj": (8, 8), "self_attn.k_proj": (8, 8), "self_attn.v_proj": (8, 8), "self_attn.o_proj": (8, 8),
        "mlp.gate_proj": (16, 8), "mlp.up_proj": (16, 8), "mlp.down_proj": (8, 16), "input_layernorm": (8,),
        "post_attention_layernorm": (8,),
    }  # fmt: skip
    layer = {f"model.layers.0.{name}.weight": shape for name, shape in shapes.items()}
    around = {"model.embed_tokens.weight": (400, 8), "lm_head.weight": (400, 8), "model.norm.weight": (8,)}
    return {name: np.zeros(shape, dtype=np.float32) for name, shape in {**around, **layer}.items()}


def adapter(folder: Path, tensors: dict[str, tuple[int, ...]] | None = None, **config: Any) -> Path:
    """A LoRA adapter of rank 4 for the queries of the small Llama; `tensors` are shapes that replace its own."""
    folder.mkdir(parents=True, exist_ok=True)
    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    rank = config.get("r", 4)
    shapes = tensors or {f"{layer}.lora_A.weight": (rank, 8), f"{layer}.lora_B.weight": (8, rank)}
    described = {"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"]} | config
    (folder / "adapter_config.json").write_text(json.dumps(described))
    save_file(
        {name: np.zeros(shape, dtype=np.float32) for name, shape in shapes.items()},
        folder / "adapter_model.safetensors",
    )
    return folder


def loaded(folder: Path) -> Any:
    """The tokenizer of a model folder, which knows where it came from."""
    return AutoTokenizer.from_pretrained(folder)


def said(*turns: str) -> list[dict[str, str]]:
    """Messages of alternating user and assistant."""
    return [{"role": ("user", "assistant")[number % 2], "content": turn} for number, turn in enumerate(turns)]


def jsonl(file: Path, rows: list[Any]) -> Path:
    """Write one row a line."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def chats(count: int) -> list[dict[str, Any]]:
    """Different conversations of one question and one answer."""
    return [{"messages": said(f"hello {number}", f"fine {number} thanks")} for number in range(count)]


def at(path: Path, secret: str = "") -> Location:
    """A location on this machine."""
    return Location(uri=f"file://{path}", secret=secret)


def a_request(*files: Path, **changes: Any) -> DataRequest:
    """A request for rows of these files."""
    request = DataRequest(
        datasets=tuple(Dataset(location=at(file)) for file in files),
        chat=Chat(),
        objective="sft",
        sequence_length=0,
        length_limit=512,
        over_length="truncate",
        seed=1,
        evaluation=Evaluation(fraction=0.0),
    )
    return replace(request, **changes)


def a_config(folder: Path, *, base: Path, data: Path, **changes: Any) -> PreflightConfig:
    """A preflight of `data` for the model in `base`; output below `folder`."""
    config = PreflightConfig(
        namespace="team-a", name="bot", uid="uid-1", generation=1, spec_digest="sha256:spec",
        model=Model(location=at(base)), datasets=(Dataset(location=at(data)),), chat=Chat(), objective="sft",
        sequence_length=0, over_length="truncate", seed=1, evaluation=Evaluation(fraction=0.1),
        output=at(folder / "out"), checkpoint=at(folder / "out" / ".checkpoints"),
    )  # fmt: skip
    return replace(config, **changes)


def prepared_rows(request: DataRequest, words: Any, workspace: Path) -> Prepared:
    """Prepare into a folder."""
    return prepare(request, words, workspace)


def texts(file: Path, words: Any) -> list[tuple[str, str]]:
    """(whole text, trained text) of each prepared row, in order."""
    return [
        (words.decode(ids.tolist()), words.decode([label for label in labels.tolist() if label != IGNORED]))
        for ids, labels in read_rows(file)
    ]


def rows_of(folder: Path, *files: Path, words: Any = None, **changes: Any) -> list[tuple[str, str]]:
    """(whole text, trained text) of each row of these files, prepared below `folder`."""
    words = words or tokenizer()
    prepared = prepared_rows(a_request(*files, **changes), words, folder / "work")
    return texts(prepared.folder / "train.arrow", words)


def refusal_of(folder: Path, *files: Path, **changes: Any) -> tuple[str, str]:
    """(reason, message) with which these files are refused; the message without `folder`."""
    with pytest.raises(UserError) as refusal:
        rows_of(folder, *files, **changes)
    return refusal.value.reason, refusal.value.message.replace(str(folder), "")


def preflight_refusal(config: PreflightConfig, workspace: Path) -> tuple[str, str]:
    """(reason, message) with which preflight refuses a job."""
    with pytest.raises(UserError) as refusal:
        examine(config, workspace)
    return refusal.value.reason, refusal.value.message


def trained_text(words: Any, row: Any, chat: Chat | None = None) -> str:
    """What is learned of one row."""
    chat = chat or Chat()
    encoder = Encoder(words, ready_tokenizer(words, chat), chat)
    (result,) = encoder.encode([row])
    if isinstance(result, Exception):
        raise result
    return str(words.decode([label for label in result.labels.tolist() if label != IGNORED]))


def zeros(*shape: int) -> Any:
    """A tensor of zeros."""
    return np.zeros(shape, dtype=np.float32)


def without(tensors: dict[str, Any], *names: str) -> dict[str, Any]:
    """Tensors but for some."""
    return {name: tensor for name, tensor in tensors.items() if name not in names}
