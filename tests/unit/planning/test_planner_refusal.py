"""DoesNotFit: need per term against what there is, and what would fit. Every remedy named was planned first."""

import re
from typing import Any

import pytest
from finetune_operator.api.pools import GPUPool
from finetune_operator.errors import DoesNotFit
from finetune_operator.planning.refusal import refusal
from finetune_operator.planning.search import Findings, Question

from tests.unit.planning.planning_builders import a_llama, a_pool, a_preflight, a_spec
from tests.unit.planning.test_planner import planned

SMALL_NODE = {"gpusPerNode": 1, "maxNodes": 1, "node": {"cpus": 24, "memoryGiB": 240, "ephemeralGiB": 1000}}


def message(model: str, *pools: GPUPool, **spec: Any) -> str:
    with pytest.raises(DoesNotFit) as refused:
        planned(model, *pools, **spec)
    return refused.value.message


def test_the_need_is_told_per_term_with_what_would_fit():
    """What, how much, what to do."""
    assert message("70b", a_pool(**SMALL_NODE), method="lora") == (
        "lora on 1 x H100-80GB-HBM3 needs 157.6 GiB per GPU including the margin, but H100-80GB-HBM3 has 79.1 GiB "
        "(weights 131.4, activations 7.0, overhead 1.9, optimizer 1.5, adapter 0.8, gradients 0.8); would fit: method qlora "
        "(qlora on 1 x H100-80GB-HBM3, $20.52); maxNodes 3 in pool h100 (lora on 3 x H100-80GB-HBM3, $27.60)"
    )


def test_every_gpu_must_hold_a_packed_model_while_it_loads():
    """405B in 4 bit on 64 GPUs: each would train with an eighth of 80 GB, and none can load it."""
    said = message("405b", a_pool(maxNodes=8), method="qlora")

    assert said == (
        "qlora on 2 x H100-80GB-HBM3 (ZeRO-3) needs 227.3 GiB per GPU including the margin while it loads, but H100-80GB-HBM3 has "
        "79.1 GiB (weights 201.3, overhead 4.2, adapter 1.2); no smaller change makes it fit: use a smaller model or a pool with more "
        "memory"
    )


def test_auto_tells_the_need_of_the_method_that_needs_least():
    """Where not even a 4-bit base fits, a longer list of needs would help nobody."""
    card = a_pool("a100", gpuType="NVIDIA-A100-SXM4-40GB", **SMALL_NODE)

    assert re.match(r"qlora on 1 x A100-SXM4-40GB needs 5\d\.\d GiB per GPU including the margin", message("70b", card))


def test_pools_that_are_not_there():
    """A typo in spec.resources.pools is seen at once."""
    assert message("8b", resources={"pools": ["nope"], "capacity": "spot"}) == (
        "no GPUPool matches spec.resources (pools nope; capacity spot). Available pools: h100 (on-demand)"
    )


def test_a_cluster_without_pools():
    """The first thing that is missing is named, and who adds it."""
    question = Question(spec=a_spec(), architecture=a_llama(), preflight=a_preflight(), pools=())

    assert refusal(question, Findings(fitting=(), refused=())) == (
        "there are no GPUPools: create them, starting from the output of `finetune pools discover`"
    )


def test_a_remedy_that_the_api_would_refuse_is_not_named():
    """A 4-bit base has no float32 masters, so method qlora does not go with precision mixed."""
    said = message("70b", a_pool(**SMALL_NODE), method="lora", training={"precision": "mixed"})

    assert "method qlora" not in said
    assert "; would fit: maxNodes " in said


def test_a_shorter_sequence_is_planned_as_preflight_would_count_it():
    """More packed rows of fewer tokens: the remedy's price is that of the plan that follows it."""
    card = {"memoryGiB": "22", **SMALL_NODE}
    said = message("8b", a_pool(**card), method="lora", training={"sequenceLength": 8192, "packing": "always"},
                   found={"sequence_length": 8192, "packed_rows": 925})  # fmt: skip
    length, cost = re.search(r"training\.sequenceLength (\d+) \(lora on 1 x [^,]+, \$([\d.]+)\)", said).groups()  # type: ignore[union-attr]
    packed = 925 * 8192 // int(length)
    shorter = planned("8b", a_pool(**card), method="lora", training={"sequenceLength": int(length), "packing": "always"},
                      found={"sequence_length": int(length), "packed_rows": packed, "tokens_p99": int(length)})  # fmt: skip

    assert float(shorter.plan.estimate.cost_usd) == pytest.approx(float(cost), abs=0.01)


def test_more_gpus_than_there_are():
    """resources.gpus is exact."""
    assert message("8b", method="lora", resources={"gpus": 64}).startswith(
        "spec.resources.gpus is 64, but the largest pool has 32 GPUs; would fit: resources.gpus 2 (lora on 2 x H100"
    )


@pytest.mark.parametrize(
    ("pool", "why"),
    [
        ({"resourceName": "nvidia.com/mig-3g.40gb", "memoryGiB": "39.25", "maxNodes": 2},
         "at most 1 GPU of these pools: MIG slices run alone"),
        ({"interconnect": {"withinNode": "nvlink", "betweenNodes": "none"}, "maxNodes": 2},
         "at most 8 GPUs of these pools: their nodes have no network (betweenNodes)"),
    ],
)  # fmt: skip
def test_gpus_that_one_job_cannot_use_together(pool: dict[str, Any], why: str):
    """Two nodes of eight have sixteen, but not for one job."""
    said = message("8b", a_pool(**pool), method="lora", resources={"gpus": 16})

    assert said.startswith(f"spec.resources.gpus is 16, but one job can use {why}; would fit: resources.gpus ")


def test_a_batch_that_the_gpus_cannot_share():
    """A batch of the user's own is never rounded."""
    spec = {"method": "lora", "resources": {"gpus": 8}, "training": {"globalBatchSize": 30}}

    assert message("8b", **spec).startswith(
        "lora on 8 x H100-80GB-HBM3: globalBatchSize 30 is not a multiple of 8 GPUs; would fit: "
        "training.globalBatchSize 32 (lora on 8 x H100-80GB-HBM3, $"
    )


def test_a_batch_that_keeps_gpus_from_being_used_is_one_of_the_remedies():
    """70B in full fits 24 H100, not 16; the user's 32 rows are no multiple of 24."""
    node = {"cpus": 96, "memoryGiB": 200, "ephemeralGiB": 2000}  # too little to offload to
    said = message("70b", a_pool(maxNodes=3, node=node), method="full", training={"globalBatchSize": 32})

    assert "; training.globalBatchSize 24 (full on 24 x H100-80GB-HBM3, $" in said


def test_no_remedy_is_told_twice():
    """The nearest batch that any GPUs can share may be the nearest that these can."""
    said = message("8b", method="lora", resources={"gpus": 8}, training={"globalBatchSize": 30})

    assert said.count("training.globalBatchSize 32") == 1


def test_a_gpu_that_nobody_described():
    """The remedy is in the pool, not in the job."""
    assert message("8b", a_pool(gpuType="ACME-X9"), method="lora") == (
        "lora on 1 x ACME-X9: gpuType ACME-X9 is not in the catalogue (`finetune gpus`): set memoryGiB in the pool"
    )


def test_an_empty_pool():
    """maxNodes 0 drains a pool."""
    assert message("8b", a_pool(maxNodes=0), method="lora").startswith(
        "the job needs at least one GPU, but the largest pool has 0 GPUs; would fit: maxNodes 1 in pool h100 (lora on 2 x "
    )


def test_a_row_that_is_too_long():
    """Halving the sequence length until it fits is one of the remedies."""
    training = {"packing": "never", "sequenceLength": 131072}

    assert "; would fit: training.sequenceLength 65536 (lora on " in message("8b", method="lora", training=training)


def test_a_shorter_sequence_is_one_that_the_model_has_positions_for():
    """Offline nobody has refused the length before: half of a million is still more than Llama 3.1 can."""
    training = {"packing": "never", "sequenceLength": 999_999}
    said = message("8b", a_pool(memoryGiB="180"), method="lora", training=training)
    found = re.search(r"training\.sequenceLength (\d+)", said)

    assert found is not None
    assert int(found[1]) <= 131_072


@pytest.mark.parametrize(
    ("model", "spec"),
    [
        ("70b", {"method": "full"}),
        ("70b", {"method": "lora"}),
        ("8b", {"method": "lora", "training": {"packing": "never", "sequenceLength": 131072}}),
    ],
)
def test_remedies_can_be_planned(model: str, spec: dict[str, Any]):
    """Following the first remedy leads to the layout that it names."""
    pool = a_pool(**{**SMALL_NODE, "gpusPerNode": 2})
    told = message(model, pool, **spec)
    field, value, summary = re.search(r"would fit: ([a-zA-Z.]+) (\S+) \((.*?), \$", told).groups()  # type: ignore[union-attr]
    changed = {**spec, "method": value} if field == "method" else spec
    if field.startswith("training."):
        changed = {**spec, "training": {**spec["training"], field.removeprefix("training."): int(value)}}

    assert planned(model, pool, **changed).plan.summary == summary


def test_nodes_that_are_too_small_are_named_with_the_layout():
    """1,300 GiB of host memory are understood only by those who read that the optimizer would lie there."""
    pool = a_pool(
        "a100", gpuType="NVIDIA-A100-SXM4-80GB", maxNodes=1, node={"cpus": 96, "memoryGiB": 1000, "ephemeralGiB": 1000}
    )

    assert message("70b", pool, method="full").startswith(
        "full on 4 x A100-SXM4-80GB (ZeRO-3 with optimizer offload): needs 1,336 GiB of host memory (a node has 1,000 GiB) and "
    )


def test_adalora_is_told_what_hinders_it():
    """It reads gradients that ZeRO-3 shards; the plain variant fits on the same GPUs."""
    said = message("70b", a_pool(maxNodes=1), method="lora", lora={"variant": "adalora"})

    assert "; lora.variant standard, which can be sharded (lora on " in said


def test_early_stopping_is_told_what_hinders_it():
    """The best weights are kept whole, and ZeRO-3 has none."""
    said = message("70b", a_pool(maxNodes=1), method="lora", training={"earlyStopping": {"patience": 3}})

    assert "; removing training.earlyStopping, which cannot be sharded (lora on " in said


def test_a_refused_offload_is_one_of_the_remedies():
    """Eight billion float32 masters do not fit one card, but they fit its node."""
    said = message("8b", a_pool(maxNodes=1), method="full", resources={"offload": "none", "gpus": 1})

    assert "; resources.offload auto (full on 1 x H100-80GB-HBM3, $" in said


def test_a_limit_that_is_too_low_is_told_with_the_number_that_works():
    """70B in 16 bit needs more than one card."""
    said = message("70b", a_pool(maxNodes=1), method="lora", resources={"maxGpus": 1})

    assert re.search(r"; resources\.maxGpus [48] \(lora on [48] x H100-80GB-HBM3, \$", said)


def test_auto_prefers_16_bit_weights_among_the_remedies():
    """lora fits as soon as the limit is gone; nobody asked for 4 bit."""
    said = message("8b", a_pool("l4", gpuType="NVIDIA-L4", maxNodes=1), resources={"gpus": 64})

    assert "would fit: resources.gpus " in said
    assert "(lora on " in said


def corrected(
    remedy: str, spec: dict[str, Any], pools: tuple[GPUPool, ...]
) -> tuple[dict[str, Any], tuple[GPUPool, ...]]:
    """Do what a remedy says, as its reader would."""
    words = remedy.partition(" (")[0].replace(",", "").split()
    training, resources, lora = (dict(spec.get(part, {})) for part in ("training", "resources", "lora"))
    match words:
        case ["method", method]:
            spec = {**spec, "method": method}
        case ["training.optimizer", optimizer]:
            training["optimizer"] = optimizer
        case [("training.sequenceLength" | "training.globalBatchSize") as field, number]:
            training[field.partition(".")[2]] = int(number)
        case [("resources.gpus" | "resources.maxGpus") as field, number]:
            resources[field.partition(".")[2]] = int(number)
        case ["resources.offload", offload]:
            resources["offload"] = offload
        case ["lora.variant", variant, *_]:
            lora["variant"] = variant
        case ["removing", "training.earlyStopping", *_]:
            del training["earlyStopping"]
        case ["any", "pool", *_]:
            resources = {key: value for key, value in resources.items() if key not in ("pools", "capacity")}
        case ["maxNodes", number, "in", "pool", name]:
            grown = {"max_nodes": int(number)}
            pools = tuple(
                pool.model_copy(update={"spec": pool.spec.model_copy(update=grown)})
                if pool.metadata.name == name
                else pool
                for pool in pools
            )
        case _:
            raise AssertionError(f"nobody knows what to do with: {remedy}")
    return {**spec, "training": training, "resources": resources, "lora": lora}, pools


ONE_NODE, ONE_CARD = a_pool(maxNodes=1), a_pool(**SMALL_NODE)
ONE_L4 = a_pool(
    "l4", gpuType="NVIDIA-L4", **(SMALL_NODE | {"node": {"cpus": 12, "memoryGiB": 48, "ephemeralGiB": 200}})
)
REFUSED: tuple[tuple[str, tuple[GPUPool, ...], dict[str, Any], int], ...] = (
    ("70b", (ONE_CARD,), {"method": "lora"}, 2),
    ("70b", (ONE_NODE,), {"method": "full", "resources": {"offload": "none"}}, 3),
    ("8b", (ONE_CARD,), {"method": "full", "resources": {"offload": "none"}}, 4),
    ("70b", (ONE_NODE,), {"method": "lora", "lora": {"variant": "adalora"}}, 2),
    ("70b", (ONE_NODE,), {"method": "lora", "training": {"earlyStopping": {"patience": 3}}}, 2),
    ("70b", (ONE_NODE,), {"method": "lora", "resources": {"maxGpus": 1}}, 2),
    ("8b", (ONE_NODE,), {"resources": {"gpus": 64}}, 1),
    ("8b", (ONE_NODE,), {"method": "lora", "resources": {"gpus": 8}, "training": {"globalBatchSize": 30}}, 2),
    ("8b", (ONE_NODE,), {"method": "lora", "training": {"packing": "never", "sequenceLength": 131072}}, 1),
    (
        "8b",
        (ONE_L4, ONE_CARD),
        {"method": "full", "resources": {"pools": ["l4"]}},
        3,
    ),
)


@pytest.mark.parametrize(("model", "pools", "spec", "least"), REFUSED, ids=lambda value: str(value)[:60])
def test_every_remedy_works(model: str, pools: tuple[GPUPool, ...], spec: dict[str, Any], least: int):
    """Whoever does what the message says gets a plan, with the method that it names."""
    remedies = message(model, *pools, **spec).partition("; would fit: ")[2].split("; ")

    assert len(remedies) >= least
    for remedy in remedies:
        changed, with_pools = corrected(remedy, spec, pools)
        assert planned(model, *with_pools, **changed).plan.method == remedy.rpartition(" (")[2].split(" on ")[0]
