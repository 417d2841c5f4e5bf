"""Answers for the metrics are planned: how many at once, how long they take, what they cost, and that one has room."""

from dataclasses import replace
from typing import Any

import pytest
from finetune_operator.planning.memory.estimate import MemoryEstimate
from finetune_operator.planning.memory.generating import answer_gib, answers_at_once, resident_gib, with_one_answer
from finetune_operator.planning.models.architecture import architecture
from finetune_operator.planning.planner import PlannedRun, plan
from finetune_operator.planning.speed.constants import DEFAULT
from finetune_operator.planning.speed.generating import token_seconds
from finetune_operator.planning.speed.step import link_bytes_per_second

from tests.unit.planning.planning_builders import LLAMA_70B, a_llama, a_pool, a_preflight, a_spec

MEMORY = MemoryEstimate(
    weights_gib=15.0, adapter_gib=0.2, gradients_gib=0.1, optimizer_gib=0.3, activations_gib=4.0, logits_gib=1.0, gathers_gib=0.0,
    slack_gib=0.5, context_gib=0.5, margin=1.1, phase="training", confidence="high", confidence_reason="",
)  # fmt: skip


def planned(found: dict[str, int], **evaluation: Any) -> PlannedRun:
    """Plan lora on one H100."""
    spec = a_spec(evaluation=evaluation, method="lora", resources={"gpus": 1})
    return plan(spec, architecture=a_llama(), preflight=a_preflight(**found), pools=[a_pool()], image="trainer")


def evaluating(found: dict[str, int], **evaluation: Any) -> float:
    """Seconds that a plan holds the GPUs for evaluation."""
    return planned(found, **evaluation).chosen.duration.evaluating


def test_generated_answers_are_counted_in_time_and_money():
    """200 rows in batches, 512 tokens each, for both models: at 0.04 s a token of a batch, as long as nothing ends early."""
    metrics = {"metrics": [{"type": "numeric"}], "maxAnswerTokens": 512}
    without, run = evaluating({}), planned({"generated_answers": 200}, **metrics)
    batches = -(-200 // run.plan.answers_at_once)
    seconds = run.chosen.duration.evaluating - without

    assert run.plan.answers_at_once == 32
    assert batches * 512 * 2 * 0.04 == pytest.approx(286.72)
    assert 286.72 < seconds < 1.15 * 286.72  # and reading 400 prompts
    assert float(run.plan.estimate.cost_usd) > float(planned({}).plan.estimate.cost_usd) + 0.15


def test_a_token_waits_for_all_weights_where_they_are_divided():
    """70B at ZeRO-3 on 4 GPUs with NVLink: three quarters of 141 GB for every token, beside the 80 layers at 0.00125 s."""
    spec, shape = a_spec(method="lora", resources={"gpus": 4}), architecture(LLAMA_70B)
    found = a_preflight(model_bytes=2 * shape.num_parameters)
    chosen = plan(spec, architecture=shape, preflight=found, pools=[a_pool()], image="trainer").chosen
    gathering = (
        0.75 * 2 * shape.num_parameters / link_bytes_per_second(chosen.layout, chosen.pool.spec.reached, DEFAULT)
    )

    assert (chosen.layout.rung.zero_stage, chosen.layout.gpus) == (3, 4)
    assert gathering > 0.3
    assert token_seconds(chosen.work, chosen.layout, chosen.pool, chosen.speed) == pytest.approx(0.1 + gathering)


def test_without_a_baseline_one_model_answers():
    """Half of it."""
    metrics: dict[str, Any] = {"metrics": [{"type": "numeric"}], "maxAnswerTokens": 512}
    found = {"generated_answers": 200}
    both = evaluating(found, **metrics) - evaluating({})
    one = evaluating(found, baseline=False, **metrics) - evaluating({}, baseline=False)

    assert one == pytest.approx(both / 2)


def test_labels_cost_a_forward_pass_each():
    """Ten labels of 200 rows are what ten evaluations cost, for each model."""
    found = {"label_answers": 2000}
    ten, none = evaluating(found, metrics=[{"type": "label"}]), evaluating({}, metrics=[{"type": "label"}])
    every = planned({}).plan.evaluate_every_steps
    evaluations = planned({}).plan.steps // every + 2

    assert ten - none == pytest.approx(2 * 10 * none / evaluations)
    assert planned(found, metrics=[{"type": "label"}]).plan.answers_at_once == 1


def test_tasks_of_lm_eval_cost_what_they_read():
    """A million tokens more for each model, as if they were those of held-out rows; the longest text has room."""
    labels = {"label_answers": 2000}
    read = 2000 * planned({}).chosen.work.evaluation_tokens
    tasks = {"task_tokens": round(read), "task_tokens_max": 3000}
    metric = {"type": "lmEval", "lmEval": {"source": "s3://team-a/tasks", "task": "t"}}
    run = planned(tasks, metrics=[metric])

    assert run.chosen.duration.evaluating == pytest.approx(evaluating(labels, metrics=[{"type": "label"}]))
    assert run.chosen.work.answered_tokens == 3000
    assert planned({"generated_answers": 10, **tasks}, metrics=[metric]).plan.answers_at_once == 32


def test_an_answer_takes_its_keys_and_values_and_the_widest_layer():
    """Of Llama-3.1-8B: 128 KiB of keys and values a token, and 148 KiB while the prompt is read."""
    assert answer_gib(a_llama(), 1000) == pytest.approx((1000 * (131_072 + 151_552) + 8 * 128_256) / 2**30)


def test_a_card_answers_as_many_at_once_as_have_room():
    """Never none, and never more than are faster."""
    free = 40 / 1.1 - resident_gib(MEMORY)

    assert answers_at_once(MEMORY, 1.0, usable_gib=40.0) == int(0.8 * free) == 15
    assert answers_at_once(MEMORY, 0.1, usable_gib=40.0) == 32
    assert answers_at_once(MEMORY, 100.0, usable_gib=40.0) == 1


def test_one_answer_has_room_in_the_request():
    """What training leaves free after its activations is enough, or the request grows."""
    assert with_one_answer(MEMORY, 4.0) is MEMORY
    grown = with_one_answer(MEMORY, 8.0)
    assert replace(grown, activations_gib=4.0) == MEMORY
    assert grown.card_gib == pytest.approx(resident_gib(MEMORY) + 8.0)


def test_a_judge_is_told_of_with_its_calls_and_tokens():
    """Its bill is somebody else's, and not in the estimate."""
    judge = {"endpoint": "https://api.example.com/v1", "model": "wise-1"}
    run = planned({"generated_answers": 200}, metrics=[{"type": "judge", "judge": judge}], maxAnswerTokens=100)

    assert [warning for warning in run.plan.warnings if "judge" in warning] == [
        "the judge wise-1 is called 400 times, with up to about 728,000 tokens to read: its cost is not part of the estimate"
    ]
