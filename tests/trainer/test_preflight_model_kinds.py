"""Models of a kind that is not trained: preflight says what they are, and what to name instead."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.trainer.data_inputs import without, zeros

Tensors = dict[str, Any]
Q = "model.layers.0.self_attn.q_proj"


HEADLESS = (
    "MODEL is a {}, which has no language model head, like any encoder, classifier, reward or embedding model: the head "
    "would start from random numbers. Use the language model that it was made from"
)
ROPES = (
    "config.json of MODEL has rope_type 'weird', which transformers 5.23.0 of this trainer does not support (supported: "
    "default, dynamic, linear, llama3, longrope, proportional, yarn): use a newer trainer image, or another model"
)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architectures": ["LlamaForSequenceClassification"]}, HEADLESS.format("LlamaForSequenceClassification")),
        ({"architectures": ["LlamaModel"]}, HEADLESS.format("LlamaModel")),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, HEADLESS.format("BertForMaskedLM")),
        (
            {"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"], "vision_config": {}},
            "MODEL is of type 'llava' (LlavaForConditionalGeneration), a multimodal model whose text part transformers "
            "cannot train "
            "alone: choose a decoder such as Llama, Qwen, Mistral or Gemma",
        ),
        (
            {"model_type": "llama5", "architectures": ["Llama5ForCausalLM"]},
            "MODEL is of type 'llama5' (Llama5ForCausalLM), which transformers 5.23.0 of this trainer does not support: use "
            "a newer "
            "trainer image, or another model",
        ),
        (
            {"text_config": {"quantization_config": {"quant_method": "compressed-tensors"}}},
            "the weights of MODEL are already quantised (compressed-tensors, from text_config.quantization_config) and "
            "cannot be trained: use the unquantised model; method qlora quantises it while loading",
        ),
        (
            {"quantization": {"group_size": 64, "bits": 4}},
            "the weights of MODEL are already quantised (MLX) and cannot be trained: use the unquantised model; method qlora quantises "
            "it while loading",
        ),
        ({"rope_parameters": {"rope_type": "weird", "rope_theta": 1e4}}, ROPES),
        ({"rope_scaling": {"type": "weird", "factor": 2.0}}, ROPES),
    ],
)  # fmt: skip
def test_a_model_of_a_kind_that_is_not_trained_is_named(refused, config: dict[str, Any], message: str) -> None:
    """What it is, and what to name instead."""
    assert refused(**config) == ("ModelUnsupported", message)


def test_a_family_that_cannot_be_planned_is_refused_with_those_that_can(refused) -> None:
    """The planner would refuse it after all rows are read."""
    reason, message = refused(model_type="gpt2", architectures=["GPT2LMHeadModel"])

    assert reason == "ModelUnsupported"
    assert message.startswith(
        "MODEL is of type 'gpt2', whose memory use cannot be estimated: choose a model of one of the types apertus, "
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: without(t, "lm_head.weight") | {"score.weight": zeros(2, 8)},
            "1 of 12 tensors of MODEL belong to a classifier, a reward model or a similar model (score.weight): use the "
            "language model that it was made from",
        ),
        (
            lambda t: t | {f"{Q}.lora_A.default.weight": zeros(4, 8)},
            f"1 of 13 tensors of MODEL belong to an adapter that was not merged ({Q}.lora_A.default.weight): merge it "
            "(merge_and_unload in PEFT) and save the result, or set spec.model.source to its base model and "
            "spec.lora.initialAdapter to the adapter",
        ),
        (
            lambda t: t | {f"{Q}.qweight": np.zeros((1, 8), dtype=np.int32)},
            f"1 of 13 tensors of MODEL belong to quantised weights, such as GPTQ, AWQ, MLX, bitsandbytes or FP8 ({Q}.qweight): "
            "use the unquantised model; method qlora quantises it while loading",
        ),
        (
            lambda t: t | {f"{Q}.weight": np.zeros((8, 8), dtype=np.int8)},
            f"1 of 12 tensors of MODEL hold integers or 8-bit floats ({Q}.weight (I8)): the weights are quantised. Use the "
            "unquantised model; method qlora quantises it while loading",
        ),
    ],
)  # fmt: skip
def test_tensors_of_another_kind_of_model_are_named(
    refused, change: Callable[[Tensors], Tensors], message: str
) -> None:
    """Its config.json may say otherwise, or nothing."""
    assert refused(change) == ("ModelUnsupported", message)
