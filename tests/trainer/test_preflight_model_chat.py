"""Chat templates, stop tokens and tokenizers that do not belong to a model's weights: preflight says so."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from finetune_contract import Chat
from finetune_trainer.preflight.examine import examine
from safetensors.numpy import save_file

from tests.trainer.data_inputs import (
    BODY,
    llama_tensors,
    model,
    preflight_refusal,
    tokenizer,
    zeros,
)

Tensors = dict[str, Any]
Q = "model.layers.0.self_attn.q_proj"


def _template(value: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "chat_template.jinja").unlink(missing_ok=True)
        file = folder / "tokenizer_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": value}))

    return write


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            [{"name": "rag", "template": BODY}, {"name": "tool_use", "template": BODY}],
            "MODEL has chat templates (rag, tool_use), but none is named default: rename one of them to default in "
            "tokenizer_config.json, or "
            "set chat.template to chatml",
        ),
        (
            "{% for m in messages }}",
            "the chat template of MODEL is not valid Jinja: unexpected '}' (line 1). Correct it, or set chat.template to chatml",
        ),
        (
            3,
            "the chat template of MODEL is a int, not text: correct chat_template in tokenizer_config.json, or set "
            "chat.template to "
            "chatml",
        ),
    ],
)  # fmt: skip
def test_a_template_that_cannot_be_used_is_refused_and_chatml_helps(
    refused, job, tmp_path, workspaces, template: Any, message: str
) -> None:
    """The remedy that is named works."""
    assert refused(files=_template(template)) == ("ModelInvalid", message)
    assert examine(replace(job, chat=Chat(template="chatml")), workspaces()).reason == "Prepared"


def test_a_template_of_the_processor_is_the_tokenizers(job, tmp_path, workspaces) -> None:
    """Multimodal models keep it in chat_template.json, which tokenizers do not read."""
    folder = tmp_path / "model"
    _template(None)(folder)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": BODY}))

    report = examine(job, workspaces()).preflight

    assert "<|im_start|>user" in (tmp_path / "out" / ".checkpoints" / report.preview_uri.rpartition("/")[2]).read_text()


def test_a_token_without_an_embedding_is_refused(job, tmp_path, workspaces) -> None:
    """On a GPU it would end in a device-side assert at the first step; one that no row uses is no matter."""
    words = tokenizer()
    rows, tensors = len(words), llama_tensors()
    tensors |= {name: zeros(rows, 8) for name in ("model.embed_tokens.weight", "lm_head.weight")}

    def refusal(made: Any) -> tuple[str, str]:
        save_file(tensors, model(tmp_path / "model", made=made, vocab_size=rows) / "model.safetensors")
        return preflight_refusal(job, workspaces())

    added = tokenizer()
    added.add_tokens(["hello 5"])
    remedy = (
        "use the tokenizer that was saved with these weights, or give the model an embedding for each token "
        "(resize_token_embeddings) and save it again"
    )
    uri = f"file://{tmp_path}/model"
    assert refusal(added) == (
        "ModelInvalid",
        f"the tokenizer of {uri} has 297 tokens, but the model has embeddings for 296, not for hello 5; the rows use token 296 "
        f"(hello 5): {remedy}",
    )
    padded = tokenizer()
    padded.add_special_tokens({"pad_token": "[PAD]"})
    assert refusal(padded) == (
        "ModelInvalid",
        f"the tokenizer of {uri} has 297 tokens, but the model has embeddings for 296, not for [PAD]; padding uses token 296 ([PAD]): "
        f"{remedy}",
    )
    unused = tokenizer()
    unused.add_tokens(["never said"])
    save_file(tensors, model(tmp_path / "model", made=unused, vocab_size=rows) / "model.safetensors")
    assert examine(job, workspaces()).preflight.warnings[0] == (
        f"the tokenizer of {uri} has 297 tokens, but the model has embeddings for 296, not for never said; no row uses the others, but "
        f"a prompt that does will fail in the tuned model: {remedy}"
    )


def _stops_elsewhere(folder: Path) -> None:
    (folder / "generation_config.json").write_text('{"eos_token_id": 2}')


def test_an_end_of_turn_at_which_the_base_model_does_not_stop_is_said(job, tmp_path, workspaces) -> None:
    """It is learned and published; what serves the adapter on its base must be told. With chatml nothing is to be told."""
    _stops_elsewhere(tmp_path / "model")

    assert examine(job, workspaces()).preflight.warnings[-1] == (
        "answers end with <|im_end|>, but the base model stops only at <|endoftext|>: the result is published with a "
        "generation_config.json that stops there, too. vLLM reads the base model's, so an adapter needs --generation-config with its "
        "own folder, which `finetune manifests` and `finetune serve` add"
    )
    closed = examine(replace(job, chat=Chat(template="chatml")), workspaces()).preflight.warnings
    assert not [warning for warning in closed if warning.startswith("answers end")]


@pytest.mark.parametrize(
    ("stop", "used"),
    [
        (2, "the rows use token 297 (<turn>)"),
        (296, "generation_config.json stops at token 296 (</turn>)"),
    ],
)
def test_tokens_added_without_embeddings_are_the_cause_of_whatever_follows(
    job, tmp_path, workspaces, stop, used
) -> None:
    """A template whose marks were added to the tokenizer and not to the model: that comes first, wherever generation stops."""
    words = tokenizer(BODY.replace("<|im_end|>", "</turn>").replace("<|im_start|>", "<turn>"), eos="<|endoftext|>")
    rows, tensors = len(words), llama_tensors()
    words.add_special_tokens({"additional_special_tokens": ["</turn>", "<turn>"]})
    tensors |= {name: zeros(rows, 8) for name in ("model.embed_tokens.weight", "lm_head.weight")}
    folder = model(tmp_path / "model", made=words, vocab_size=rows, stops=[stop])
    save_file(tensors, folder / "model.safetensors")

    assert preflight_refusal(job, workspaces()) == (
        "ModelInvalid",
        f"the tokenizer of file://{folder} has 298 tokens, but the model has embeddings for 296, not for </turn>, <turn>; {used}: use "
        "the tokenizer that was saved with these weights, or give the model an embedding for each token (resize_token_embeddings) "
        "and save it again",
    )
