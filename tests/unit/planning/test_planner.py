"""The plan: numbers that hang together, limits that are kept, sane values for runs of every size."""

from typing import Any

import pytest
from finetune_operator.api.pool_pod import PodResource, PoolPodSettings
from finetune_operator.api.pools import GPUPool
from finetune_operator.errors import DoesNotFit
from finetune_operator.planning.layouts import gpu_counts, shared_batches
from finetune_operator.planning.models.architecture import architecture
from finetune_operator.planning.planner import PlannedRun, plan
from finetune_operator.planning.search import Question, search
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.unit.planning.planning_builders import (
    LLAMA_8B,
    LLAMA_70B,
    LLAMA_405B,
    MIXTRAL_8X7B,
    SMOLLM2_135M,
    a_laptop,
    a_pool,
    a_preflight,
    a_spec,
    a_tiny_preflight,
)

MODELS = {
    "8b": (architecture(LLAMA_8B), 16_060_522_496),
    "70b": (architecture(LLAMA_70B), 141_107_412_992),
    "mixtral": (architecture(MIXTRAL_8X7B), 93_405_585_408),
    "405b": (architecture(LLAMA_405B), 811_706_720_256),
    "135m": (architecture(SMOLLM2_135M), 269_060_552),
}


def planned(model: str = "8b", /, *pools: GPUPool, found: dict[str, Any] | None = None, **spec: Any) -> PlannedRun:
    shape, size = MODELS[model]
    preflight = (a_tiny_preflight if model == "135m" else a_preflight)(**{"model_bytes": size, **(found or {})})
    return plan(
        a_spec(**spec), architecture=shape, preflight=preflight, pools=pools or (a_pool(),), image="trainer@sha256:abc"
    )


def test_what_is_planned_hangs_together():
    """Batch, steps, tokens and money are one arithmetic."""
    run = planned(method="lora", resources={"gpus": 1}).plan

    assert run.global_batch_size == run.micro_batch_size * run.gradient_accumulation_steps * run.replicas * (
        run.gpus_per_replica
    )
    assert run.steps == 174  # 1,850 packed rows x 3 epochs / 32
    assert run.tokens_per_step * run.steps == pytest.approx(3 * 7_200_000, rel=0.01)
    assert run.evaluate_every_steps == 9
    assert float(run.estimate.gpu_hours) == pytest.approx(run.estimate.seconds / 3600, abs=0.0001)
    assert float(run.estimate.cost_usd) == pytest.approx(float(run.estimate.gpu_hours) * 2.5, abs=0.01)


def test_a_model_without_sdpa_is_planned_with_eager_attention():
    """Gemma 2 caps its scores: they are kept for every pair of tokens, and the plan counts them."""
    gemma = architecture({**LLAMA_8B, "model_type": "gemma2"})
    found = a_preflight(model_bytes=16_060_522_496)
    asked = a_spec(method="lora", resources={"gpus": 1}, training={"packing": "never", "sequenceLength": 2048})
    eager = plan(asked, architecture=gemma, preflight=found, pools=(a_pool(),), image="i").plan
    varlen = plan(asked, architecture=MODELS["8b"][0], preflight=found, pools=(a_pool(),), image="i").plan

    assert (eager.attention, varlen.attention) == ("eager", "varlen")
    assert (eager.micro_batch_size, eager.activation_checkpointing) == (1, False)
    assert (varlen.micro_batch_size, varlen.activation_checkpointing) == (1, False)
    # 8 bytes for each of 2,048 x 2,048 pairs, 32 heads and 32 layers, and the working set of one layer
    pairs_gib = 8 * 2048 * 2048 * 32 * 32 / 2**30
    assert pairs_gib < float(eager.vram.activations_gib) - float(varlen.vram.activations_gib) < 1.1 * pairs_gib


def test_tokens_times_epochs_over_speed_is_the_training_time():
    """The identity that published tables fail: tokens x epochs / (tokens/s) is what the GPUs are mostly held for."""
    run = planned("70b", method="lora", resources={"gpus": 8}).plan
    training = run.steps * run.tokens_per_step / float(run.estimate.tokens_per_second)

    assert training < run.estimate.seconds < 1.5 * training + 1200


def test_a_tiny_run_gets_sane_numbers():
    """30 steps over 200 rows on a laptop: no interval longer than the run, no save more often than it is worth."""
    run = planned("135m", a_laptop(), method="lora", training={"maxSteps": 30})

    assert (run.plan.summary, run.plan.steps, run.plan.evaluate_every_steps) == ("lora on 1 x local-cpu", 30, 2)
    assert 30 <= run.plan.checkpoint.interval_seconds <= run.plan.estimate.seconds / 2
    assert run.plan.checkpoint.grace_seconds >= 30
    assert run.plan.estimate.seconds < 900
    assert run.plan.packing is False
    assert (run.resolved.evaluation.every_steps, run.resolved.checkpoint.interval_seconds) == (
        2,
        run.plan.checkpoint.interval_seconds,
    )


def test_more_processes_on_one_machine_are_no_faster():
    """The local cluster's GPUs are one CPU: two of them take twice as long for each step."""
    one, two = (
        float(
            planned(
                "135m", a_laptop(), method="lora", resources={"gpus": gpus}, training={"globalBatchSize": 8}
            ).plan.estimate.tokens_per_second
        )
        for gpus in (1, 2)
    )

    assert two == pytest.approx(one, rel=0.02)


def test_an_unknown_gpu_with_its_memory_given_can_be_planned():
    """memoryGiB is enough to plan on; the estimate says that it is vague."""
    run = planned("8b", a_pool(gpuType="ACME-X9", memoryGiB="64"), method="lora").plan

    assert (run.pool.gpu_type, run.vram.usable_gib) == ("ACME-X9", "64.00")
    assert float(run.estimate.high_usd) == pytest.approx(3 * float(run.estimate.cost_usd), rel=0.02)


def test_the_users_batch_is_kept_exactly():
    """30 rows per step fit 1, 2, 3, 5, 6 ... GPUs, and the plan uses one of those."""
    run = planned(method="lora", training={"globalBatchSize": 30}, resources={"optimizeFor": "time"})

    assert run.plan.global_batch_size == run.resolved.training.global_batch_size == 30
    assert 30 % (run.plan.replicas * run.plan.gpus_per_replica) == 0


def test_a_default_batch_is_rounded_to_the_gpus_and_says_so():
    """32 rows on 12 GPUs would be off by an eighth: 36, with a warning."""
    run = planned("8b", a_pool(gpusPerNode=6), method="lora", resources={"gpus": 12})

    assert run.plan.global_batch_size == run.resolved.training.global_batch_size == 36
    assert (
        "the default globalBatchSize of 32 was changed to 36, which divides evenly among 12 GPUs: set training.globalBatchSize to keep "
        "a value" in run.plan.warnings
    )


def test_gpus_without_a_price_are_not_taken_for_the_asking():
    """In a cluster of one's own a pool may cost nothing; a plan still takes no more GPUs than it needs."""
    run = planned("8b", a_pool(pricePerGPUHourUSD="0"), resources={"optimizeFor": "cost"}).plan

    assert (run.summary, run.estimate.cost_usd) == ("lora on 1 x H100-80GB-HBM3", "0.00")


def test_a_free_pool_beats_a_dear_one():
    """lora on the free pool, although the other is faster."""
    free, dear = a_pool("free", pricePerGPUHourUSD="0", gpuType="NVIDIA-L40S"), a_pool("dear")

    assert planned("8b", free, dear).plan.pool.name == "free"


def test_a_mig_slice_runs_alone():
    """MIG slices cannot talk to each other: one GPU per job."""
    mig = a_pool("mig", resourceName="nvidia.com/mig-3g.40gb", memoryGiB="39.25", maxNodes=2)

    run = planned("8b", mig, method="lora", resources={"optimizeFor": "time"}).plan

    assert (run.gpus_per_replica, run.summary) == (1, "lora on 1 x H100-80GB-HBM3 mig-3g.40gb")


def test_pools_without_a_network_use_one_node():
    """betweenNodes none forbids runs on more than one node."""
    island = a_pool(interconnect={"withinNode": "nvlink", "betweenNodes": "none"})
    run = planned("8b", island, method="lora", resources={"optimizeFor": "time"}).plan

    assert (run.replicas, run.gpus_per_replica) == (1, 8)


def test_a_node_that_is_too_small_is_refused():
    """A GPU that fits is no use on a node that cannot load the model."""
    with pytest.raises(
        DoesNotFit, match=r"lora on 1 x H100-80GB-HBM3: needs 27 GiB of local disk \(a node has 10 GiB\)"
    ):
        planned("8b", a_pool(node={"cpus": 16, "memoryGiB": 64, "ephemeralGiB": 10}), method="lora")


def test_a_full_fine_tune_has_room_for_a_result_as_large_as_its_base():
    """It is published in its base's dtype: 16 GB of bfloat16, 32 GB of float32, beside the base that was fetched."""
    size, eight = MODELS["8b"][1], {"gpus": 8}
    half, whole = (
        planned("8b", method="full", resources=eight, found={"model_bytes": count}).plan.host
        for count in (size, 2 * size)
    )

    assert whole.ephemeral_gib - half.ephemeral_gib == pytest.approx(2 * size / 2**30, abs=1)


def test_the_pool_is_a_snapshot():
    """Editing the pool later cannot reshape the run."""
    selector = [{"key": "nvidia.com/gpu.product", "value": "NVIDIA-H100-80GB-HBM3"}]
    pool = planned("8b", a_pool(nodeSelector=selector, capacity="spot"), method="lora").plan.pool

    assert pool.model_dump() == {
        "name": "h100",
        "gpuType": "NVIDIA-H100-80GB-HBM3",
        "resourceName": "nvidia.com/gpu",
        "nodeSelector": selector,
        "tolerations": [],
        "pod": PoolPodSettings(resources=[PodResource(key="rdma/ib", quantity=1)]).model_dump(),
        "capacity": "spot",
        "pricePerGPUHourUSD": "2.50",
        "provisioningSeconds": 1200,
    }


def test_budget_and_deadline_are_kept_where_they_can_be():
    """The fastest plan within the money; where none is, the plan says when it will be suspended."""
    budget = {"budget": {"maxCostUSD": "2.20"}}
    within = planned(method="lora", resources={"optimizeFor": "time"}, runPolicy=budget).plan
    beyond = planned(method="lora", runPolicy={"budget": {"maxCostUSD": "0.50"}, "activeDeadlineSeconds": 60}).plan

    assert float(within.estimate.cost_usd) <= 2.2
    assert [text.partition(" exceeds ")[2] for text in beyond.warnings[:2]] == [
        "the budget of $0.50: the job will be suspended when the budget is spent, unless you raise "
        "runPolicy.budget.maxCostUSD",
        "the limit of 1 min: the job will be suspended then, unless you raise runPolicy.activeDeadlineSeconds",
    ]


def test_a_batch_that_keeps_gpus_idle_is_told():
    """Whoever asks for 7 rows must not wonder why one GPU of 32 is used."""
    odd = planned(method="lora", training={"globalBatchSize": 7}).plan
    even = planned(method="lora", training={"globalBatchSize": 24}).plan

    assert odd.replicas * odd.gpus_per_replica == 1
    assert odd.warnings == ["globalBatchSize 7 splits evenly over 1 of 32 GPUs only: 8 would allow more layouts"]
    assert even.warnings == []


def test_a_reclaim_costs_nothing_when_a_save_fits_the_notice():
    """An adapter is saved in seconds, 8 billion float32 masters are not."""
    small = planned(method="lora", resources={"gpus": 1}).plan.checkpoint
    large = planned(method="full", resources={"gpus": 8}).plan.checkpoint

    assert (small.loss_on_reclaim_seconds, small.grace_seconds <= 60) == (0, True)
    assert large.loss_on_reclaim_seconds > 60
    assert large.save_seconds > 60
    assert large.grace_seconds > 2 * large.save_seconds  # the checkpoint that is being uploaded, and the last one


def test_a_reclaim_loses_no_more_than_the_run():
    """Saving 70 billion float32 masters takes so long that the interval is longer than a short run: half of that is lost."""
    run = planned("70b", method="full", resources={"gpus": 32}).plan

    assert run.checkpoint.interval_seconds > run.estimate.seconds
    assert run.checkpoint.loss_on_reclaim_seconds < run.estimate.seconds / 2


@pytest.mark.parametrize(
    ("offload", "rungs"),
    [("none", {"none"}), ("optimizer", {"optimizer"}), ("all", {"all"}), ("auto", {"none", "optimizer"})],
)
def test_offload_is_taken_as_asked_for(offload: str, rungs: set[str]):
    """auto uses host memory only where the card is too small: on one H100 for 8B, not on eight."""
    spec = {"method": "full", "resources": {"offload": offload}}
    question = Question(
        spec=a_spec(**spec), architecture=architecture(LLAMA_8B), preflight=a_preflight(), pools=[a_pool(maxNodes=1)]
    )

    assert {one.layout.rung.offload for one in search(question, "full").fitting} == rungs


def test_the_users_interval_and_cadence_are_kept():
    """checkpoint.intervalSeconds and evaluation.everySteps win over the plan's own."""
    run = planned(method="lora", checkpoint={"intervalSeconds": 77}, evaluation={"everySteps": 5})

    assert (run.plan.checkpoint.interval_seconds, run.plan.evaluate_every_steps) == (77, 5)


@pytest.mark.parametrize("method", ["lora", "full"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(
    gpus_per_node=st.sampled_from([1, 2, 4, 8]),
    max_nodes=st.integers(1, 5),
    batch=st.one_of(st.none(), st.integers(1, 96)),
    optimize_for=st.sampled_from(["cost", "balanced", "time"]),
    examples=st.integers(50, 50_000),
    prices=st.tuples(st.integers(50, 500), st.integers(50, 500)),
)
def test_no_alternative_of_the_method_beats_the_plan(
    method: str, gpus_per_node: int, max_nodes: int, batch: int | None, optimize_for: str, examples: int,
    prices: tuple[int, int],
):  # fmt: skip
    """Under its own objective the plan is the best of those it shows; the batch is what was asked for."""
    pools = [
        a_pool(name, gpuType=gpu, gpusPerNode=gpus_per_node, maxNodes=max_nodes, pricePerGPUHourUSD=f"{price / 100}")
        for name, gpu, price in zip(
            ("h100", "a100"), ("NVIDIA-H100-80GB-HBM3", "NVIDIA-A100-SXM4-80GB"), prices, strict=True
        )
    ]
    training = {"globalBatchSize": batch} if batch else {}
    found = {"examples": examples, "tokens": 1500 * examples, "packed_rows": examples * 3 // 8 + 1}
    try:
        run = planned(
            "8b", *pools, found=found, method=method, training=training, resources={"optimizeFor": optimize_for}
        )
    except DoesNotFit:
        assume(False)
    chosen = run.plan.estimate
    others = [one for one in run.plan.alternatives if one.cost_usd and one.summary.startswith(method)]
    if batch:
        assert run.plan.global_batch_size == batch
    match optimize_for:
        case "cost":
            assert all(float(chosen.cost_usd) <= float(one.cost_usd) for one in others)
        case "time":
            assert all(chosen.seconds <= one.seconds for one in others)
        case _:
            cheapest = min(float(chosen.cost_usd), *(float(one.cost_usd) for one in others), 1e9)
            assert float(chosen.cost_usd) <= 1.15 * cheapest + 0.01
            close = [one for one in others if float(one.cost_usd) <= 1.149 * cheapest - 0.01]
            assert all(chosen.seconds <= one.seconds for one in close)


def test_a_network_that_pods_cannot_reach_is_not_counted():
    """The nodes have InfiniBand, the Pods no device for it: the plan is that of Ethernet, and says so."""
    pools = [a_pool(pod=pod) for pod in ({"resources": [{"key": "rdma/ib", "quantity": 1}]}, {})]
    fast, slow = (planned("70b", pool, method="lora", resources={"gpus": 16}).plan for pool in pools)

    assert slow.estimate.seconds > fast.estimate.seconds
    assert [text for text in slow.warnings if text not in fast.warnings] == [
        "pool h100 has infiniband between its nodes, but its Pods request no device for it: the plan counts 25 Gbit/s Ethernet. "
        "Name the device, such as rdma/ib or vpc.amazonaws.com/efa, in spec.pod.resources of the GPUPool"
    ]


def test_a_default_batch_moves_to_what_more_gpus_share():
    """70B full on three nodes: 32 rows are no multiple of 24 GPUs, so they would be left for four GPUs with offload."""
    three = a_pool(maxNodes=3)
    moved = planned("70b", three, method="full").plan
    kept = planned("70b", three, method="full", training={"globalBatchSize": 32}).plan

    assert (moved.global_batch_size, moved.replicas, moved.offload) == (24, 3, "none")
    assert (kept.global_batch_size, kept.offload) == (32, "optimizer")
    assert float(moved.estimate.cost_usd) < float(kept.estimate.cost_usd)
    assert moved.estimate.seconds < kept.estimate.seconds / 5


@given(
    model=st.sampled_from(["8b", "70b"]),
    method=st.sampled_from(["lora", "qlora", "full"]),
    objective=st.sampled_from(["cost", "time", "balanced"]),
    per_node=st.sampled_from([1, 2, 3, 4, 6, 8]),
    nodes=st.integers(1, 6),
    examples=st.sampled_from([1_000, 12_000]),
)
@settings(max_examples=25, deadline=None)
def test_no_default_batch_that_gpus_share_is_better(
    model: str, method: str, objective: str, per_node: int, nodes: int, examples: int
):
    """Each batch to which the default may move, on whichever number of GPUs, is planned as a user's own: none is better than the plan.

    Of a balanced plan, which trades one for the other, none is both cheaper and faster.
    """
    pool = a_pool(gpusPerNode=per_node, maxNodes=nodes)
    found, resources = {"examples": examples, "packed_rows": 0}, {"optimizeFor": objective}
    try:
        best = planned(model, pool, found=found, method=method, resources=resources).chosen
    except DoesNotFit:
        assume(False)

    counts = gpu_counts(pool.spec, best.work.resolved.resources)
    for batch in shared_batches(counts, wanted=best.work.global_batch_size, fixed=False):
        training = {"globalBatchSize": batch}
        try:
            other = planned(model, pool, found=found, method=method, resources=resources, training=training).chosen
        except DoesNotFit:
            continue
        cheap, fast = best.weight <= 1.02 * other.weight, best.seconds <= 1.02 * other.seconds
        assert {"cost": cheap, "time": fast, "balanced": cheap or fast}[objective]


def test_a_batch_that_other_numbers_of_gpus_bring_is_tried_on_each():
    """16 rows would be 15 on 3 GPUs; 18, which 6 GPUs bring, has larger micro batches there."""
    found = {"examples": 1000, "packed_rows": 0}
    pool = a_pool(gpusPerNode=1, maxNodes=6)
    run = planned("70b", pool, found=found, method="lora", resources={"optimizeFor": "cost"}).plan

    assert (run.replicas, run.global_batch_size, run.micro_batch_size) == (3, 18, 2)


def test_a_batch_that_moves_only_for_speed_says_so():
    """4 GPUs could share 8 rows, but pay for the optimizer in host memory once per step: 12 rows need fewer steps."""
    found = {"examples": 300, "packed_rows": 0}
    pool = a_pool(gpusPerNode=4, maxNodes=6)
    run = planned("70b", pool, found=found, method="full", resources={"optimizeFor": "cost"}).plan

    assert (run.replicas * run.gpus_per_replica, run.offload, run.global_batch_size) == (4, "optimizer", 12)
    assert (
        "the default globalBatchSize of 8 was changed to 12, with which 4 GPUs train faster: set training.globalBatchSize to keep a value"
        in run.warnings
    )


def test_gpus_wait_until_a_result_has_been_read_back():
    """From a bucket, 15 GiB at 0.25 GiB/s: a minute of all GPUs, where they publish. A volume is not read back."""
    shape, size = MODELS["8b"]
    bucket, volume = (
        plan(
            a_spec(method="full", resources={"gpus": 8}, output={"destination": f"{place}/out"}),
            architecture=shape,
            preflight=a_preflight(model_bytes=size),
            pools=(a_pool(),),
            image="i",
            gpu_publish_seconds=600,
        ).plan.estimate.seconds
        for place in ("s3://bucket", "pvc://claim")
    )

    assert bucket - volume == pytest.approx(size / 2**30 / 0.25, abs=1)
