"""Initial adapters that do not fit their own config or the base model: preflight says so."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from finetune_contract import Chat
from finetune_trainer.chat import ready_tokenizer
from finetune_trainer.preflight.examine import examine

from tests.trainer.data_inputs import adapter, at, loaded, preflight_refusal

Tensors = dict[str, Any]
Q = "model.layers.0.self_attn.q_proj"


PEFT = f"base_model.model.{Q}"
OTHER = (
    "the adapter ADAPTER does not belong to this base model: {} Set spec.model.source to the model that it was trained on, "
    "or train a new adapter"
)


@pytest.mark.parametrize(
    ("shapes", "config", "reason", "message"),
    [
        (
            {f"{PEFT}.lora_A.weight": (4, 16), f"{PEFT}.lora_B.weight": (16, 4)}, {}, "ModelUnsupported",
            OTHER.format(
                f"2 of its tensors differ in size from the base model: {Q}.lora_A (16, base model 8), {Q}.lora_B (16, base "
                "model 8)."
            ),
        ),
        (
            {f"base_model.model.h.0.c_attn.lora_{half}.weight": shape for half, shape in (("A", (4, 8)), ("B", (24, 4)))},
            {"target_modules": ["c_attn"]}, "ModelUnsupported",
            OTHER.format("1 of its 1 layers do not exist in the base model: h.0.c_attn."),
        ),
        (
            {f"{PEFT}.lora_A.weight": (4, 8), f"{PEFT}.lora_B.weight": (8, 4), "base_model.model.model.embed_tokens.weight": (420, 8)},
            {}, "ModelUnsupported",
            OTHER.format(
                "1 of its tensors differ in size from the base model: model.embed_tokens.weight (420 x 8, base model 400 x 8)."
            ),
        ),
        (
            {f"{PEFT}.lora_A.weight": (2, 8), f"{PEFT}.lora_B.weight": (8, 2)}, {}, "ModelInvalid",
            f"adapter_config.json of ADAPTER says r 4, but 1 of its layers have a different rank: {Q} (2). Use the "
            "adapter_config.json that "
            "was saved with these weights",
        ),
        (
            {f"{PEFT}.lora_A.weight": (4, 8)}, {}, "ModelInvalid",
            f"ADAPTER lacks 1 of its tensors: {Q}.lora_B. Copy the adapter again",
        ),
        (
            None, {"target_modules": ["q_proj", "v_proj"]}, "ModelInvalid",
            "ADAPTER has no weights for 1 of the layers that its target_modules name: model.layers.0.self_attn.v_proj. They "
            "would start from scratch; copy the adapter again, or use the adapter_config.json that was saved with these "
            "weights",
        ),
        ({"x": (4, 8)}, {}, "ModelInvalid", "ADAPTER holds no LoRA weights, only x: copy the adapter again"),
    ],
)  # fmt: skip
def test_an_adapter_that_does_not_fit_the_base_is_refused(
    job, tmp_path, workspaces, shapes: Any, config: dict[str, Any], reason: str, message: str
) -> None:
    """Names, sizes and rank, against its own config and the base model's files."""
    folder = adapter(tmp_path / "adapter", shapes, **config)

    found, said = preflight_refusal(replace(job, initial_adapter=at(folder)), workspaces())

    assert (found, said.replace(f"file://{folder}", "ADAPTER")) == (reason, message)


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (
            {"init_lora_weights": "pissa"},
            "an initialisation that changes the base weights (PiSSA, OLoRA, CorDA, LoftQ), and cannot be trained further: save it as plain "
            "LoRA first (save_pretrained of PEFT with path_initial_model_for_weight_conversion), or train a new adapter",
        ),
        (
            {"alora_invocation_tokens": [5]},
            "invocation tokens (aLoRA), and cannot be trained further: merge it into its base model and tune the result, or train a new "
            "adapter",
        ),
    ],
)
def test_an_adapter_that_is_more_than_its_matrices_is_not_continued(
    job, tmp_path, workspaces, config: dict[str, Any], what: str
) -> None:
    """PEFT would change the base weights, and the measured base model would be another one; or train nothing."""
    folder = adapter(tmp_path / "adapter", None, base_model_name_or_path=job.model.location.uri, **config)

    found, said = preflight_refusal(replace(job, initial_adapter=at(folder)), workspaces())

    assert (found, said) == ("ModelUnsupported", f"the adapter file://{folder} has {what}")


def test_adapters_that_call_the_same_layer_differently_are_not_merged(job, tmp_path, workspaces) -> None:
    """A server would ignore one of them, so the job ends before anything is merged."""
    wrapped = PEFT.replace("model.layers", "model.language_model.layers")
    one, two = (
        adapter(tmp_path / name, {f"{layer}.lora_A.weight": (4, 8), f"{layer}.lora_B.weight": (8, 4)})
        for name, layer in (("one", PEFT), ("two", wrapped))
    )

    found, said = preflight_refusal(replace(job, merged_adapters=(at(one), at(two))), workspaces())

    assert (found, said.replace(f"file://{one}", "ONE").replace(f"file://{two}", "TWO")) == (
        "ModelUnsupported",
        f"TWO calls {wrapped.removeprefix('base_model.model.')} what ONE calls {Q}: they were saved from differently wrapped models, and a "
        "server would ignore one of them. Save both from the same class of model",
    )


def test_an_adapter_of_another_chat_template_is_doubted(job, tmp_path, workspaces) -> None:
    """Also where the texts of the templates differ and what they write does not: then nothing is said."""
    marked = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
    same, other = adapter(tmp_path / "same"), adapter(tmp_path / "other")
    told = replace(job, chat=Chat(template="chatml"), merged_adapters=(at(same), at(other)))
    words = loaded(Path(job.model.location.uri.removeprefix("file://")))
    ready_tokenizer(words, told.chat)
    (same / "chat_template.jinja").write_text("{# ours #}" + words.chat_template)
    (other / "tokenizer_config.json").write_text(json.dumps({"chat_template": marked}))

    warnings = examine(told, workspaces()).preflight.warnings

    assert [warning for warning in warnings if "saved with a chat template" in warning] == [
        f"the adapter file://{other} was saved with a chat template that writes conversations differently: it is asked in a way that it "
        "was not trained for. Set chat.template to the one of its training"
    ]
