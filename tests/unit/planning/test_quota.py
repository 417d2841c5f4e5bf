"""Plans fit the ResourceQuotas and LimitRanges of the namespace: never more than `hard`, and the plan says how much of it."""

from decimal import Decimal
from typing import Any

import pytest
from finetune_operator.api.pools import GPUPool
from finetune_operator.errors import DoesNotFit
from finetune_operator.planning.planner import PlannedRun, plan
from finetune_operator.planning.quota import GIB, NamespaceLimits, PodRange, Quota

from tests.unit.planning.planning_builders import a_pool, a_preflight, a_spec
from tests.unit.planning.test_planner import MODELS

GPU = "requests.nvidia.com/gpu"


def quota(name: str = "team-a", **hard: int) -> NamespaceLimits:
    amounts = tuple((key.replace("__", "."), Decimal(value)) for key, value in hard.items())
    return NamespaceLimits(quotas=(Quota(name=name, hard=amounts),))


def gpus(number: int) -> NamespaceLimits:
    return NamespaceLimits(quotas=(Quota(name="team-a", hard=((GPU, Decimal(number)),)),))


def planned(limits: NamespaceLimits, *pools: GPUPool, model: str = "8b", **spec: Any) -> PlannedRun:
    shape, size = MODELS[model]
    found = a_preflight(model_bytes=size)
    return plan(
        a_spec(**spec), architecture=shape, preflight=found, pools=pools or (a_pool(),), image="i", limits=limits
    )


def refusal(limits: NamespaceLimits, *pools: GPUPool, model: str = "8b", **spec: Any) -> str:
    with pytest.raises(DoesNotFit) as refused:
        planned(limits, *pools, model=model, **spec)
    return refused.value.message


def test_a_plan_takes_no_more_gpus_than_the_quota_has():
    """The fastest run would take 32; with a quota of 8 it takes 8 and says so."""
    free = planned(NamespaceLimits(), method="full", resources={"optimizeFor": "time"}).plan
    bound = planned(gpus(8), method="full", resources={"optimizeFor": "time"}).plan

    assert free.replicas * free.gpus_per_replica == 32
    assert free.quotas == []
    assert bound.replicas * bound.gpus_per_replica == 8
    assert bound.quotas == ["8 of 8 GPUs of quota team-a"]


def test_every_resource_that_the_quota_counts_is_named():
    """GPUs, memory, cores and Pods of one quota are one sentence."""
    limits = quota(pods=5, requests__cpu=64, limits__memory=512 * GIB, persistentvolumeclaims=3)

    run = planned(limits, method="lora", resources={"gpus": 2}).plan

    assert run.quotas == [f"1 of 5 Pods, 8 of 64 CPUs, {run.host.memory_gib} of 512 GiB of memory of quota team-a"]


def test_a_quota_that_is_too_small_is_refused_with_what_it_would_take():
    """What, how much, what to do: the figure for the quota, and what fits as it is."""
    assert refusal(gpus(4), model="70b", method="lora", resources={"gpus": 8}) == (
        "lora on 8 x H100-80GB-HBM3 needs 8 GPUs (quota team-a allows 4); would fit: requests.nvidia.com/gpu 8 in quota team-a; "
        "resources.gpus 4 (lora on 4 x H100-80GB-HBM3, $25.36)"
    )


def test_a_quota_of_no_gpus_leaves_nothing_to_run_on():
    """A namespace for web servers: nothing but the quota can be changed."""
    assert refusal(gpus(0), method="lora", resources={"gpus": 1}) == (
        "lora on 1 x H100-80GB-HBM3 needs 1 GPU (quota team-a allows 0); would fit: requests.nvidia.com/gpu 1 in quota team-a"
    )


def test_memory_of_all_pods_counts_together():
    """Two Pods with more memory than the quota has for both."""
    said = refusal(quota(limits__memory=64 * GIB), method="full", resources={"gpus": 16})

    assert said.startswith("full on 16 x H100-80GB-HBM3 needs ")
    assert "GiB of memory (quota team-a allows 64 GiB); would fit: limits.memory " in said


def test_cores_are_cut_to_what_the_quota_has():
    """Cores make a run faster and are no need: 8 GPUs work with 16 instead of 32."""
    free = planned(NamespaceLimits(), method="lora", resources={"gpus": 8}).plan
    bound = planned(quota(limits__cpu=16), method="lora", resources={"gpus": 8}).plan

    assert (free.host.cpus, bound.host.cpus) == (32, 16)
    assert bound.quotas == ["16 of 16 CPUs of quota team-a"]


def test_a_quota_below_one_core_is_refused():
    """A Pod has one core at least: what cannot be cut further is said."""
    limits = NamespaceLimits(quotas=(Quota(name="team-a", hard=(("requests.cpu", Decimal("0.5")),)),))

    assert refusal(limits, method="lora", resources={"gpus": 1}).startswith(
        "lora on 1 x H100-80GB-HBM3 needs 1 CPU (quota team-a allows 0.5); would fit: requests.cpu 1 in quota team-a"
    )


def test_one_pod_has_no_more_than_a_limit_range_allows():
    """A LimitRange of four GPUs per Pod: no Pod of eight is planned."""
    limits = NamespaceLimits(ranges=(PodRange(name="pods", most=(("nvidia.com/gpu", Decimal(4)),)),))

    run = planned(limits, method="lora", resources={"optimizeFor": "time"}).plan

    assert (run.replicas, run.gpus_per_replica) == (1, 4)
    assert refusal(limits, method="lora", resources={"gpus": 8}).startswith(
        "lora on 8 x H100-80GB-HBM3 needs 8 GPUs per Pod (LimitRange pods allows 4); would fit: max nvidia.com/gpu 8 in LimitRange pods"
    )


def test_count_pods_counts_the_preflight_pod_too():
    """`pods` forgets Pods that have ended, `count/pods` does not: four trainers and the preflight Pod are five."""
    counted = NamespaceLimits(quotas=(Quota(name="team-a", hard=(("count/pods", Decimal(4)),)),))

    assert planned(quota(pods=4), method="full", resources={"gpus": 32}).plan.quotas == ["4 of 4 Pods of quota team-a"]
    assert refusal(counted, method="full", resources={"gpus": 32}).startswith(
        "full on 32 x H100-80GB-HBM3 needs 5 Pods (quota team-a allows 4)"
    )


def test_a_quota_for_one_kind_of_gpu_leaves_the_others():
    """Pools of MIG slices are counted by their own resource: two pools of one card are not one candidate."""
    whole, slices = a_pool(), a_pool("slices", resourceName="nvidia.com/mig-3g.40gb", gpusPerNode=8, memoryGiB="39")
    limits = NamespaceLimits(quotas=(Quota(name="team-a", hard=((GPU, Decimal(0)),)),))

    run = planned(limits, whole, slices, method="qlora").plan

    assert (run.pool.name, run.quotas) == ("slices", [])
