"""GPUs do not wait for the upload of a large model: a Pod without GPUs publishes it, and the plan says what that takes."""

from typing import Any

import pytest
from finetune_operator.api.plan import ExportPlan, Plan
from finetune_operator.api.preflight import PreflightStatus
from finetune_operator.planning.once import planned as planned_once
from finetune_operator.planning.planner import PlannedRun, plan

from tests.unit.planning.planning_builders import a_pool, a_preflight, a_spec
from tests.unit.planning.test_planner import MODELS

BASE_BYTES = 16_060_556_376
"""With the headers of its files, as on the hub."""
LONGER = 10**6
TIMES_MEASURED = 21
"""Nineteen times while training, and both models."""


def found(**parts: Any) -> PreflightStatus:
    return a_preflight(**{"model_bytes": BASE_BYTES, **parts})


def run(
    *,
    gpu_publish_seconds: int = 60,
    model_bytes: int = BASE_BYTES,
    model_dtype: str = "",
    gpus: int = 8,
    held_out: int = 200,
    **spec: Any,
) -> PlannedRun:
    """Return the plan of an 8B model."""
    return plan(
        a_spec(**{"method": "full", "resources": {"gpus": gpus}, **spec}),
        architecture=MODELS["8b"][0],
        preflight=found(model_bytes=model_bytes, model_dtype=model_dtype, evaluation_examples=held_out),
        pools=(a_pool("h100", gpusPerNode=8),),
        image="i",
        gpu_publish_seconds=gpu_publish_seconds,
    )


def held(one: Plan) -> tuple[int, float]:
    return one.estimate.seconds, float(one.estimate.gpu_hours)


def test_the_upload_is_no_part_of_the_time_that_is_paid_for():
    """15 GiB are written to a bucket in 50 s and read back in 60: 110 of the 115 s that eight GPUs would wait are saved."""
    waiting, handed = run(gpu_publish_seconds=LONGER), run()

    assert waiting.plan.export is None
    assert (waiting.chosen.duration.publishing, handed.chosen.duration.publishing) == (
        pytest.approx(114.7, abs=0.1),
        5.0,
    )
    assert waiting.plan.estimate.seconds - handed.plan.estimate.seconds in (109, 110)
    assert handed.plan.summary == waiting.plan.summary
    assert handed.plan.export == ExportPlan(
        publishes=True, memory_gib=6, cpus=4, ephemeral_gib=25, seconds=247, size_gib="14.96"
    )


@pytest.mark.parametrize(
    ("parts", "waiting"),
    [
        ({}, 50.9),
        ({"model_bytes": 2 * BASE_BYTES}, 350.0),
        ({"model_bytes": 2 * BASE_BYTES, "training": {"earlyStopping": {"patience": 3}}}, 50.9),
        ({"gpus": 1, "training": {"precision": "bf16", "optimizer": "adamw-8bit"}}, 50.9),
        ({"model_dtype": "float16"}, 350.0),
    ],
    ids=["weights alone", "masters too", "the best weights are published", "one GPU", "masters of a base in float16"],
)
def test_gpus_wait_for_what_the_last_step_leaves(parts: dict[str, Any], waiting: float):
    """16-bit weights of 8B are 15 GiB, at 0.3 GiB/s; all states are 105. Measuring the model at the same time is no waiting."""
    unmeasured, measured = run(**parts, held_out=0), run(**parts)
    measuring = (measured.chosen.duration.evaluating - unmeasured.chosen.duration.evaluating) / TIMES_MEASURED

    assert last_save(unmeasured) == pytest.approx(waiting, abs=0.1)
    assert last_save(measured) == pytest.approx(waiting - measuring, abs=0.1)


def test_the_first_node_has_room_for_the_whole_weights_of_two_checkpoints():
    """15 GiB of each, and half of the 90 that two nodes share; beside the base, the result, and 10 GiB."""
    assert run(gpus=16).plan.host.ephemeral_gib == 2 * (15 + 45) + 15 + 15 + 10


def last_save(planned: PlannedRun) -> float:
    """Return the seconds of saving that are not those of checkpoints on the way."""
    found, checkpoint = planned.chosen.duration, planned.plan.checkpoint
    return found.saving - checkpoint.save_seconds * (found.training // checkpoint.interval_seconds)


def test_the_bound_is_the_operators():
    """115 s: one second less hands over, the same does not."""
    assert run(gpu_publish_seconds=114).plan.export is not None
    assert run(gpu_publish_seconds=115).plan.export is None


def test_a_checkpoint_on_a_volume_is_read_in_place():
    """Nothing is fetched, and nothing lies on the disk of the Pod; what is on a volume is not read back."""
    volume = run(output={"destination": "pvc://models/bot"}, gpu_publish_seconds=30).plan.export

    assert volume == ExportPlan(publishes=True, memory_gib=6, cpus=4, ephemeral_gib=10, seconds=127, size_gib="14.96")


def test_forms_are_made_in_the_same_pod():
    """Room and time for both."""
    both = run(output={"destination": "s3://team-a/out", "exports": ["gguf-q8_0"]}).plan.export
    forms = run(
        output={"destination": "s3://team-a/out", "exports": ["gguf-q8_0"]}, gpu_publish_seconds=LONGER
    ).plan.export
    alone = run().plan.export

    assert both is not None
    assert forms is not None
    assert alone is not None
    assert (forms.publishes, both.publishes) == (False, True)
    assert both.seconds == alone.seconds + forms.seconds
    assert both.memory_gib == max(alone.memory_gib, forms.memory_gib)
    assert both.ephemeral_gib == alone.ephemeral_gib + forms.ephemeral_gib - 10


@pytest.mark.parametrize(
    ("parts", "handed"),
    [
        ({"method": "lora"}, False),
        ({"model_bytes": 2 * BASE_BYTES}, False),
        ({"model_dtype": "float16"}, False),
        ({"model_dtype": "float16", "gpus": 1, "training": {"precision": "bf16", "optimizer": "adamw-8bit"}}, True),
        ({"model_bytes": 2 * BASE_BYTES, "training": {"earlyStopping": {"patience": 3}}}, True),
        ({"model_dtype": "float16", "training": {"earlyStopping": {"patience": 3}}}, True),
        ({"model_dtype": "bfloat16", "model_bytes": 2 * BASE_BYTES}, True),
    ],
    ids=[
        "an adapter is small",
        "masters in float32 are in no checkpoint",
        "nor are those that become float16",
        "one GPU has no masters",
        "the best weights are 16-bit copies",
        "also those of a base in float16",
        "towers make a base in bfloat16 as large as one in float32",
    ],
)
def test_only_weights_that_a_checkpoint_holds_are_handed_over(parts: dict[str, Any], handed: bool):
    """What is published is the same, bit for bit."""
    export = run(**parts).plan.export

    assert (export is not None and export.publishes) == handed


@pytest.mark.parametrize(
    ("dtype", "spec", "disk"),
    [
        ("bfloat16", {}, 25),
        ("bfloat16", {"training": {"earlyStopping": {"patience": 3}}}, 25),
        ("float16", {"training": {"earlyStopping": {"patience": 3}}}, 40),
    ],
)
def test_weights_in_another_type_are_written_anew(dtype: str, spec: dict[str, Any], disk: int):
    """Checkpoints hold bfloat16 copies: a model that is published in float16 lies on the disk twice, as one in float32."""
    export = run(model_dtype=dtype, **spec).plan.export

    assert export is not None
    assert export.ephemeral_gib == disk


def test_a_question_is_remembered_with_what_the_answer_depends_on():
    """The bound, and whether checkpoints lie on a volume."""
    bucket, volume = {"destination": "s3://team-a/out"}, {"destination": "pvc://models/bot"}
    for output in (bucket, volume, {**bucket, "exports": ["gguf-f16"]}):
        for seconds in (30, LONGER):
            spec = a_spec(method="full", resources={"gpus": 8}, output=output)
            question: dict[str, Any] = {
                "architecture": MODELS["8b"][0], "preflight": found(), "pools": (a_pool("h100", gpusPerNode=8),), "image": "i",
                "gpu_publish_seconds": seconds,
            }  # fmt: skip
            assert planned_once(spec, **question).plan == plan(spec, **question).plan
