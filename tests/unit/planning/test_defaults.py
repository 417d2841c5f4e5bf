"""The resolved spec: every default that depends on objective, method, model size or data."""

from typing import Any

import pytest
from finetune_operator.errors import JobError
from finetune_operator.planning.defaults import default_global_batch_size, resolve
from finetune_operator.planning.models.catalogue import model_named

from tests.unit.planning.planning_builders import a_llama, a_preflight, a_spec, a_tiny_preflight


def resolved(spec: Any, method: Any = "lora", **found: Any) -> Any:
    return resolve(spec, method=method, architecture=a_llama(), preflight=a_preflight(**found))


def test_a_minimal_lora_job_is_filled_in():
    """Ten lines of YAML become a complete run."""
    spec = resolved(a_spec())

    assert {
        "method": spec.method,
        "alpha": spec.lora.alpha,
        "revision": spec.model.revision,
        "checkpoint": spec.checkpoint.destination,
        "training": spec.training.model_dump(by_alias=True),
    } == {
        "method": "lora",
        "alpha": 32,
        "revision": "c" * 40,
        "checkpoint": "s3://team-a/out/.checkpoints",
        "training": {
            "epochs": 3, "maxSteps": None, "learningRate": "2e-4", "scheduler": "cosine", "warmupFraction": "0.03",
            "weightDecay": "0.0", "maxGradNorm": "1.0", "globalBatchSize": 32, "sequenceLength": 4096,
            "overLength": "truncate", "packing": "always", "precision": "bf16", "optimizer": "adamw",
            "neftuneAlpha": "0", "seed": 42, "earlyStopping": None,
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("objective", "method", "parameters", "rate"),
    [
        ("sft", "lora", 8_030_261_248, "2e-4"),
        ("sft", "qlora", 29_900_000_000, "2e-4"),
        ("sft", "qlora", 32_764_000_000, "1e-4"),
        ("sft", "full", 3_212_749_824, "2e-5"),
        ("sft", "full", 8_030_261_248, "1e-5"),
        ("cpt", "lora", 70_553_706_496, "1e-4"),
        ("cpt", "full", 1_235_814_400, "1e-5"),
    ],
)
def test_learning_rate_follows_objective_method_and_size(objective: str, method: Any, parameters: int, rate: str):
    """Adapters take ten times the rate of full fine-tuning; large models take less."""
    spec = resolve(
        a_spec(objective=objective),
        method=method,
        architecture=a_llama(num_parameters=parameters),
        preflight=a_preflight(),
    )

    assert rate == spec.training.learning_rate


def test_continued_pretraining_makes_one_pass_with_weight_decay():
    """What is read once cannot be learned by heart."""
    training = resolved(a_spec(objective="cpt"), method="full").training

    assert (
        training.epochs, training.weight_decay, training.precision, training.scheduler,
    ) == (1, "0.1", "mixed", "cosine")  # fmt: skip


def test_what_the_user_set_is_kept():
    """Nothing that was written is second-guessed."""
    asked = {
        "epochs": 7, "learningRate": "3e-4", "scheduler": "linear", "weightDecay": "0.01", "globalBatchSize": 33,
        "sequenceLength": 1000, "packing": "never", "precision": "bf16", "optimizer": "paged-adamw-8bit",
        "neftuneAlpha": "5",
    }  # fmt: skip
    training = resolved(a_spec(training=asked), method="full").training.model_dump(by_alias=True)

    assert asked == {name: training[name] for name in asked}


@pytest.mark.parametrize(
    ("rows", "epochs", "batch"),
    [
        (1850, 3, 32),  # 27.75 is nearer to 32 than to 16
        (1600, 3, 16),  # 24 is as near to 16 as to 32: the smaller
        (200, 3, 8),
        (100_000, 3, 64),
        (5, 3, 4),  # no more than there are rows
        (1, 1, 1),
    ],
)
def test_global_batch_is_the_power_of_two_nearest_to_a_two_hundredth(rows: int, epochs: int, batch: int):
    """About two hundred steps, between 8 and 64 rows each."""
    assert batch == default_global_batch_size(rows, epochs)


@pytest.mark.parametrize(
    ("found", "asked", "packing"),
    [
        ({}, "auto", "always"),
        ({"packed_rows": 199}, "auto", "never"),  # too few steps would be left
        ({"packed_rows": 4000}, "auto", "never"),  # saves hardly anything
        ({"sequence_length": 131072}, "auto", "always"),  # rows do not see each other, and there is no mask
        ({"packed_rows": 20}, "always", "always"),
        ({}, "never", "never"),
    ],
)
def test_packing_is_used_where_it_pays(found: dict[str, Any], asked: Any, packing: str):
    """auto packs when a quarter of the rows is saved, 200 are left and attention stays affordable."""
    assert packing == resolved(a_spec(training={"packing": asked}), **found).training.packing


def test_long_rows_are_not_packed_where_they_would_need_a_mask():
    """Falcon calls its own attention: its packed rows have a mask, which is quadratic."""
    falcon = model_named("tiiuae/falcon-7b")
    assert falcon is not None
    found = {
        length: resolve(
            a_spec(), method="lora", architecture=falcon, preflight=a_preflight(sequence_length=length)
        ).training.packing
        for length in (8192, 8193)
    }

    assert found == {8192: "always", 8193: "never"}


@pytest.mark.parametrize("name", ["Qwen/Qwen3.5-9B", "Qwen/Qwen3.5-35B-A3B"])
def test_linear_attention_is_not_packed(name: str):
    """It would read over the borders: auto leaves rows alone, always is refused with what to set."""
    shape = model_named(name)
    assert shape is not None
    auto = resolve(a_spec(), method="lora", architecture=shape, preflight=a_preflight())
    with pytest.raises(JobError) as refused:
        resolve(a_spec(training={"packing": "always"}), method="lora", architecture=shape, preflight=a_preflight())

    assert auto.training.packing == "never"
    assert auto.training.global_batch_size == 64  # for 4,800 rows, not for 1,850 packed ones
    assert refused.value.message == (
        f"spec.training.packing always does not work with {shape.model_type}, whose linear attention cannot separate rows: "
        "set it to auto or never"
    )


def test_max_steps_instead_of_epochs_says_how_often_the_data_is_seen():
    """20 steps of 8 rows over 200 rows are one pass begun."""
    spec = resolve(
        a_spec(training={"maxSteps": 20}), method="lora", architecture=a_llama(), preflight=a_tiny_preflight()
    )

    assert (spec.training.max_steps, spec.training.epochs, spec.training.global_batch_size) == (20, 1, 8)


def test_rank_stabilised_lora_scales_by_the_rank():
    """alpha = rank: twice the rank would scale by 8 at rank 16."""
    assert resolved(a_spec(lora={"rank": 64, "variant": "rslora"})).lora.alpha == 64


def test_a_hub_cannot_hold_checkpoints():
    """The message names the field and what to write there."""
    with pytest.raises(JobError) as refused:
        resolved(a_spec(output={"destination": "hf://org/tuned"}))

    assert refused.value.reason == "InvalidSpec"
    assert refused.value.message == (
        "spec.checkpoint.destination is required because the output is on a hub or in a registry, which cannot store checkpoints: "
        "set it to a folder at s3://, gs://, az:// or pvc://"
    )


def test_checkpoints_use_the_keys_of_the_output():
    """One Secret is enough where both lie in the same store."""
    output = {"destination": "s3://team-a/out", "credentials": {"secretName": "keys"}}

    assert resolved(a_spec(output=output)).checkpoint.credentials.secret_name == "keys"


def test_only_a_hub_has_revisions():
    """A folder's digest is not something that could be asked for."""
    assert resolved(a_spec(model={"source": "s3://team-a/models/llama"})).model.revision is None
