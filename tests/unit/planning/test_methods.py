"""method: auto, by its ordered rules, with the reason in words; warnings for what people get wrong."""

import json
import re
from typing import Any

import pytest
from finetune_contract.engines import Trait
from finetune_operator.planning.advice import traits_of
from finetune_operator.planning.models.architecture import architecture
from finetune_operator.planning.models.catalogue import catalogue_entry

from tests.unit.planning.planning_builders import a_pool
from tests.unit.planning.test_planner import planned

ONE_GPU = {"gpusPerNode": 1, "maxNodes": 1}
ONE_NODE = {"maxNodes": 1}
FEW = {"examples": 300, "tokens": 450_000, "packed_rows": 116}


def chosen(model: str, pool: dict[str, Any], found: dict[str, Any] | None = None, **spec: Any) -> tuple[str, str]:
    run = planned(model, a_pool(**pool), found=found, **spec)
    return run.plan.method, run.plan.method_reason


def test_continued_pretraining_is_full():
    """New knowledge goes into all weights."""
    assert chosen("8b", ONE_NODE, objective="cpt") == (
        "full",
        "continued pre-training works best on all weights, and full fine-tuning fits",
    )


def test_continued_pretraining_falls_back_when_full_cannot_be_had():
    """On one GPU nothing but an adapter fits; the plan says what that means."""
    node = {"cpus": 24, "memoryGiB": 240, "ephemeralGiB": 1000}  # too little to offload full fine-tuning to
    run = planned("70b", a_pool(node=node, **ONE_GPU), objective="cpt").plan

    assert (run.method, run.method_reason) == (
        "qlora",
        "full does not fit; qlora is the next best choice for continued pre-training",
    )
    assert "qlora learns less new knowledge than full fine-tuning; set method to full to require that" in run.warnings


def test_few_examples_are_lora():
    """4-bit noise does not average out over 300 rows."""
    assert chosen("8b", ONE_NODE, FEW) == (
        "lora",
        "fits in 16 bits; 300 examples are too few for 4-bit training",
    )


def test_few_examples_without_room_for_lora_get_a_larger_rank():
    """qlora with rank 64 instead, in the resolved spec too."""
    run = planned("70b", a_pool(**ONE_GPU), found=FEW)

    assert (run.plan.method, run.plan.method_reason) == (
        "qlora",
        "lora does not fit; LoRA rank 64, because qlora performs poorly at a lower rank with only 300 examples",
    )
    assert (run.resolved.method, run.resolved.lora.rank, run.resolved.lora.alpha) == ("qlora", 64, 128)
    assert run.plan.num_trainable_parameters == 64 * 12_943_360
    assert "qlora with 300 examples: adding rows would help more than the larger rank" in run.plan.warnings


def test_few_examples_take_the_users_rank_where_the_larger_one_does_not_fit():
    """A smaller adapter is better than none; that a job fits with rank 16 is no refusal with rank 64."""
    card = a_pool("card", memoryGiB="48", **ONE_GPU)
    run = planned("70b", card, found={**FEW, "sequence_length": 1024}, training={"packing": "never"}).plan

    assert (run.method, run.method_reason) == (
        "qlora",
        "lora does not fit; LoRA rank 64, better for qlora with only 300 examples, does not fit",
    )


def test_a_budget_that_only_qlora_keeps_decides():
    """Half a run of the better method is worth less than all of the other."""
    pools = (
        a_pool("dear", pricePerGPUHourUSD="1.10", **ONE_NODE),
        a_pool("cheap", pricePerGPUHourUSD="1.00", **ONE_GPU),
    )
    free = planned("70b", *pools).plan
    bound = planned("70b", *pools, runPolicy={"budget": {"maxCostUSD": "10.50"}}).plan

    assert (free.method, bound.method) == ("lora", "qlora")
    assert re.fullmatch(
        r"lora would take \d h \d\d min and cost \$\d+\.\d\d, more than spec\.runPolicy allows; qlora stays within the limits",
        bound.method_reason,
    )
    assert [warning for warning in bound.warnings if "budget" in warning] == []


def test_a_deadline_that_no_method_keeps_changes_nothing():
    """The rules decide, and a warning says what will happen."""
    run = planned("8b", a_pool(**ONE_NODE), runPolicy={"activeDeadlineSeconds": 60}).plan

    assert run.method_reason == "fits in 16 bits on 1 x H100-80GB-HBM3"
    assert any("exceeds the limit of 1 min: the job will be suspended then" in warning for warning in run.warnings)


def test_continued_pretraining_within_a_deadline_says_what_it_gives_up():
    """An adapter in time instead of full too late."""
    full = planned("8b", a_pool(**ONE_NODE), objective="cpt").plan
    spec = {"objective": "cpt", "resources": {"gpus": full.gpus_per_replica}}
    late = {"runPolicy": {"activeDeadlineSeconds": full.estimate.seconds - 60}}
    run = planned("8b", a_pool(**ONE_NODE), **spec, **late).plan

    assert run.method == "lora"
    assert "lora learns less new knowledge than full fine-tuning; set method to full to require that" in run.warnings


def test_lora_where_it_fits_as_few_gpus():
    """The usual case."""
    assert chosen("8b", ONE_NODE) == ("lora", "fits in 16 bits on 1 x H100-80GB-HBM3")


def test_qlora_where_only_that_fits():
    """70 billion parameters in 16 bit are more than one card."""
    assert chosen("70b", ONE_GPU) == ("qlora", "lora does not fit, but qlora does")


def test_qlora_where_lora_is_half_as_dear_again():
    """A cheap card that only the 4-bit base fits on beats a dear one by more than 1.5 times."""
    cheap = a_pool("cheap", pricePerGPUHourUSD="1.00", **ONE_GPU)
    dear = a_pool("dear", pricePerGPUHourUSD="2.00", **ONE_NODE)
    run = planned("70b", cheap, dear).plan

    assert (run.method, run.pool.name) == ("qlora", "cheap")
    assert run.method_reason.startswith("lora would cost at least $")
    assert run.method_reason.endswith("times as much as qlora")


def test_a_dear_plan_needs_the_users_word():
    """optimizeFor time stays under three times the cheapest plan, unless the method is named."""
    time, short = {"optimizeFor": "time"}, {"maxSteps": 20}
    automatic = planned("8b", resources=time, training=short).plan
    named = planned("8b", resources=time, training=short, method="lora").plan
    cheapest = planned("8b", resources={"optimizeFor": "cost"}, training=short, method="lora").plan

    assert automatic.method == "lora"
    assert float(automatic.estimate.cost_usd) <= 3 * float(cheapest.estimate.cost_usd) + 0.01
    assert named.estimate.seconds < automatic.estimate.seconds


def test_the_users_method_is_used():
    """No second-guessing."""
    assert chosen("8b", ONE_NODE, method="qlora") == ("qlora", "set in spec.method")


@pytest.mark.parametrize(
    ("spec", "found", "warning"),
    [
        ({"method": "lora"}, {"examples": 60}, "60 examples are too few to generalise from: use at least 200 to 500"),
        ({"method": "qlora"}, {"examples": 300},
         "qlora performs poorly with 300 examples: use lora, or set lora.rank to 64"),
        ({"training": {"epochs": 8}}, {},
         "8 epochs over 4,800 examples are likely to overfit: use at most 5, or set training.earlyStopping"),
        ({"training": {"maxSteps": 5}}, {},
         "only 5 optimizer steps: use more rows, more epochs or a smaller globalBatchSize"),
        ({}, {"evaluation_examples": 0},
         "no rows are held out, so nothing will show whether the model improved: set evaluation"),
        ({"lora": {"targets": "attention"}}, {},
         "lora.targets attention mostly changes style: all-linear learns more"),
        ({"lora": {"rank": 4}}, {}, "lora.rank 4 is too low for most tasks: 16 is a good starting point"),
        ({"lora": {"rank": 256}}, {}, "lora.rank 256 is high: above 128, method full is usually the better choice"),
        ({"lora": {"variant": "dora"}}, {},
         "DoRA: not loaded by vllm, sglang, llama.cpp and ignored by tgi; "
         "add merged to output.exports for a model that every server loads"),
        ({"lora": {"variant": "rslora"}}, {},
         "rslora scaling: ignored by sglang, llama.cpp; add merged to output.exports for a model that every server loads"),
        ({"lora": {"variant": "adalora"}}, {},
         "AdaLoRA: not loaded by vllm, sglang, llama.cpp and ignored by tgi; "
         "add merged to output.exports for a model that every server loads"),
        ({"lora": {"rank": 1024}}, {},
         "a LoRA rank above 512: not loaded by vllm; add merged to output.exports for a model that every server loads"),
        ({"lora": {"modulesToSave": ["lm_head"]}}, {},
         "whole modules (modulesToSave): not loaded by vllm, llama.cpp and ignored by sglang, tgi; "
         "add merged to output.exports for a model that every server loads"),
        ({"method": "lora", "training": {"learningRate": "0.01"}}, {},
         "training.learningRate 0.01 is high, and training may diverge: the usual range for lora is 1e-5 to 1e-3"),
        ({"method": "full", "training": {"learningRate": "2e-7"}}, {},
         "training.learningRate 2e-7 is low, and the model may hardly change: the usual range for full is 1e-6 to 1e-4"),
        ({"model": {"source": "hf://org/model"}}, {},
         f"the adapter works only with base model revision {'c' * 40}: serve it with that revision"),
        ({"method": "full", "training": {"precision": "bf16"}}, {},
         "precision bf16 keeps no float32 master weights: small updates are lost to rounding and learning stalls"),
    ],
)  # fmt: skip
def test_pitfalls_are_warned_of(spec: dict[str, Any], found: dict[str, Any], warning: str):
    """Each says what, how much and what to do."""
    assert warning in planned("8b", found=found, **spec).plan.warnings


def test_the_text_part_of_a_multimodal_model_is_not_served_by_vllm():
    """Its own checkpoint is: only the wrapper gives the layers other names."""
    entry = catalogue_entry("Qwen/Qwen3.5-9B")
    assert entry is not None
    text, lora = json.loads(entry.architecture.config), planned("8b").resolved.lora
    assert lora is not None
    wrapped = architecture({"model_type": "qwen3_5", "text_config": text})

    assert traits_of(lora, wrapped) == {Trait.TEXT_PART}
    assert traits_of(lora, entry.architecture) == frozenset()


def test_a_sound_job_gets_no_warning():
    """Warnings that are always there are read by nobody."""
    assert planned("8b").plan.warnings == []


def test_no_advice_that_would_be_refused():
    """One card: lora of 70B does not fit, nor do adapters on the experts of a large mixture."""
    few = {"examples": 300}
    small = planned("70b", a_pool(**ONE_GPU), method="qlora", found=few).plan.warnings
    mixture = planned("mixtral", a_pool(**ONE_GPU), method="qlora").plan.warnings
    room = planned("mixtral", a_pool(gpuType="NVIDIA-B200", **ONE_NODE), method="qlora").plan.warnings

    assert "qlora performs poorly with 300 examples: set lora.rank to 64" in small
    assert (
        "the 8 experts of each layer stay frozen: adapting them (lora.experts) does not fit on these pools" in mixture
    )
    assert any(
        text.startswith("the 8 experts of each layer stay frozen: method lora with lora.experts adapts")
        for text in room
    )
