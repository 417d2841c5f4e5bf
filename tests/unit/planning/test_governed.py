"""A job under a FineTunePolicy: each rule is named with its figure and with who can change it, and nothing else is refused."""

from typing import Any

import pytest
from finetune_operator.api.policies import FineTunePolicy
from finetune_operator.api.pools import GPUPool
from finetune_operator.errors import DoesNotFit, JobError
from finetune_operator.planning.governed import Offer, broken_rules, governed, governed_plan
from finetune_operator.planning.planner import PlannedRun, plan

from tests.unit.planning.planning_builders import a_pool, a_preflight, a_spec
from tests.unit.planning.test_planner import MODELS

OWNER = ": FineTunePolicy default of namespace team-a, which #ml-platform can change"
COMMIT = "c" * 40


def a_policy(**spec: Any) -> FineTunePolicy:
    meta = {"name": "default", "namespace": "team-a", "uid": "p"}
    return FineTunePolicy.model_validate({"metadata": meta, "spec": {"contact": "#ml-platform", **spec}})


def planned(policy: FineTunePolicy, *pools: GPUPool, model: str = "8b", **spec: Any) -> PlannedRun:
    shape, size = MODELS[model]

    def ask(offer: Offer) -> PlannedRun:
        found = a_preflight(model_bytes=size)
        return plan(
            offer.spec, architecture=shape, preflight=found, pools=offer.pools, image="i", methods=offer.methods
        )

    return governed_plan(a_spec(**spec), pools or (a_pool(),), policy, ask)


def refusal(policy: FineTunePolicy, *pools: GPUPool, model: str = "8b", **spec: Any) -> str:
    with pytest.raises(JobError) as refused:
        planned(policy, *pools, model=model, **spec)
    assert refused.value.reason == "PolicyViolation"
    return refused.value.message


@pytest.mark.parametrize(
    ("policy", "spec", "broken"),
    [
        (
            {"allow": {"models": ["Qwen/*", "meta-llama/Llama-3*"]}},
            {"model": {"source": "hf://mistralai/Mistral-7B-v0.3", "revision": COMMIT}},
            "spec.model.source hf://mistralai/Mistral-7B-v0.3 is not an allowed model (allow.models: Qwen/*, meta-llama/Llama-3*)",
        ),
        (
            {"allow": {"models": ["Qwen/*"]}},
            {"model": {"source": "s3://anybody/model"}},
            "spec.model.source s3://anybody/model is not an allowed model (allow.models: Qwen/*)",
        ),
        (
            {"allow": {"sources": ["s3://team-a"]}},
            {"model": {"source": "s3://team-a/m"}, "datasets": [{"source": "s3://team-a/d"}, {"source": "s3://team-ab/d"}]},
            "spec.datasets[1].source s3://team-ab/d is not an allowed source (allow.sources: s3://team-a)",
        ),
        (
            {"allow": {"destinations": ["s3://team-a/", "pvc://results"]}},
            {"output": {"destination": "s3://elsewhere/out"}, "checkpoint": {"destination": "pvc://results/checkpoints"}},
            "spec.output.destination s3://elsewhere/out is not an allowed destination (allow.destinations: s3://team-a/, pvc://results)",
        ),
        (
            {"allow": {"sources": ["s3://team-a", "hf://org"]}},
            {"model": {"source": "hf://org/m"}, "datasets": [{"source": "s3://team-a/d"}], "chat": {"templateSource": "s3://evil/t.jinja"}},
            "spec.chat.templateSource s3://evil/t.jinja is not an allowed source (allow.sources: s3://team-a, hf://org)",
        ),
        (
            {"allow": {"sources": ["s3://team-a", "hf://org"]}},
            {"model": {"source": "hf://org/m"}, "datasets": [{"source": "s3://team-a/d"}],
             "evaluation": {"metrics": [{"type": "contains", "source": {"source": "https://evil.org/d.jsonl"}}]}},
            "spec.evaluation.metrics[0].source.source https://evil.org/d.jsonl is not an allowed source"
            " (allow.sources: s3://team-a, hf://org)",
        ),
        (
            {"allow": {"destinations": ["oci://registry/team", "oci://registry/bot", "s3://"]}},
            {"output": {"destination": "oci://registry/bot2:v1"}, "checkpoint": {"destination": "s3://bucket/c"}},
            "spec.output.destination oci://registry/bot2:v1 is not an allowed destination (allow.destinations: oci://registry/team,"
            " oci://registry/bot, s3://)",
        ),
        (
            {"allow": {"secrets": ["finetune-*", "hub"]}},
            {"model": {"source": "hf://org/m", "credentials": {"secretName": "hub"}},
             "datasets": [{"source": "s3://team-a/d", "credentials": {"secretName": "bank-keys"}}]},
            "spec.datasets[0].credentials.secretName names Secret bank-keys, which is not allowed (allow.secrets: finetune-*, hub)",
        ),
        (
            {"allow": {"destinations": ["s3://team-a", "https://judge.example.org"]}},
            {"output": {"destination": "s3://team-a/out"}, "evaluation": {"metrics": [
                {"type": "judge", "judge": {"endpoint": "https://judge.example.org.evil.org/v1", "model": "m"}}]}},
            "spec.evaluation.metrics[0].judge.endpoint https://judge.example.org.evil.org/v1 is not an allowed destination"
            " (allow.destinations: s3://team-a, https://judge.example.org)",
        ),
        (
            {"allow": {"sources": ["s3://team-a", "hf://org"]}},
            {"evaluation": {"metrics": [{"type": "lmEval", "lmEval": {"source": "s3://other/tasks", "task": "t"}}]}},
            "spec.evaluation.metrics[0].lmEval.source s3://other/tasks is not an allowed source (allow.sources: s3://team-a, hf://org)",
        ),
        (
            {"allow": {"destinations": ["s3://team-a"]}},
            {"output": {"destination": "s3://team-a/out"}, "trackers": [{"type": "mlflow", "uri": "http://evil.org"}]},
            "spec.trackers[0].uri http://evil.org is not an allowed destination (allow.destinations: s3://team-a)",
        ),
        (
            {"allow": {"trustRemoteCode": False}},
            {"model": {"source": "hf://org/m", "revision": COMMIT, "trustRemoteCode": True}},
            "spec.model.trustRemoteCode is true (allow.trustRemoteCode: false)",
        ),
        (
            {"require": {"pinnedRevision": True}},
            {"model": {"source": "hf://org/m", "revision": "main"}},
            "spec.model.revision must be a full commit id of 40 hexadecimal digits (require.pinnedRevision)",
        ),
        ({"require": {"budget": True}}, {}, "spec.runPolicy.budget must be set (require.budget)"),
        (
            {"allow": {"methods": ["lora", "qlora"]}}, {"method": "full"},
            "spec.method full is not an allowed method (allow.methods: lora, qlora)",
        ),
        (
            {"allow": {"pools": ["a", "b"]}}, {"resources": {"pools": ["a", "c"]}},
            "spec.resources.pools has c (allow.pools: a, b)",
        ),
        ({"limits": {"gpusPerJob": 8}}, {"resources": {"gpus": 16}}, "spec.resources.gpus is 16 (limits.gpusPerJob: 8)"),
        ({"limits": {"gpus": 8}}, {"resources": {"gpus": 16}}, "spec.resources.gpus is 16 (limits.gpus: 8)"),
        ({"limits": {"gpusPerJob": 0}}, {}, "a job needs at least one GPU (limits.gpusPerJob: 0)"),
    ],
)  # fmt: skip
def test_each_rule_is_named_with_its_figure(policy: Any, spec: Any, broken: str):
    """What is wrong, and what the policy has instead."""
    assert broken_rules(a_spec(**spec), a_policy(**policy)) == (broken,)


@pytest.mark.parametrize(
    ("policy", "spec"),
    [
        ({}, {"method": "full", "resources": {"gpus": 4096}}),
        ({"allow": {"models": ["Qwen/Qwen2.5-*"]}}, {"model": {"source": "hf://Qwen/Qwen2.5-7B", "revision": "main"}}),
        ({"allow": {"models": ["Qwen/*"], "sources": ["s3://team-a/"]}}, {"model": {"source": "s3://team-a/m"}, "datasets": [{"source": "s3://team-a/d.jsonl"}]}),
        ({"allow": {"sources": ["s3://", "hf://org"]}}, {"model": {"source": "hf://org/m"}, "datasets": [{"source": "s3://any/d"}]}),
        ({"allow": {"destinations": ["s3://team-a"]}}, {"output": {"destination": "s3://team-a/out"}}),
        (
            {"allow": {"destinations": ["oci://registry/team/bot", "s3://"]}},
            {"output": {"destination": "oci://registry/team/bot:v1"}, "checkpoint": {"destination": "s3://bucket/c"}},
        ),
        (
            {"allow": {"destinations": ["s3://team-a", "http://judge:8000"], "sources": ["s3://", "hf://org"]}},
            {"model": {"source": "hf://org/m"}, "output": {"destination": "s3://team-a/out"}, "chat": {"templateSource": "configmap://chat/t"},
             "evaluation": {"metrics": [{"type": "judge", "judge": {"endpoint": "http://judge:8000/v1", "model": "m"}}]}},
        ),
        ({"require": {"pinnedRevision": True}}, {"model": {"source": "s3://team-a/m"}}),
        ({"allow": {"methods": ["lora"]}}, {"method": "auto"}),
    ],
)  # fmt: skip
def test_what_is_allowed_is_not_refused(policy: Any, spec: Any):
    """Absent rules allow everything; a folder and its bucket are one place."""
    assert broken_rules(a_spec(**spec), a_policy(**policy)) == ()


def test_all_rules_are_named_at_once_and_who_can_change_them():
    """One message is enough to put a job in order."""
    policy = a_policy(require={"budget": True}, allow={"methods": ["lora"]})

    assert refusal(policy, method="full") == (
        f"spec.runPolicy.budget must be set (require.budget); spec.method full is not an allowed method (allow.methods: lora){OWNER}"
    )


def test_the_planner_stays_within_the_gpus_of_a_job():
    """As fast as possible on 8 GPUs, not on 32."""
    run = planned(a_policy(limits={"gpusPerJob": 8}), method="full", resources={"optimizeFor": "time"}).plan

    assert run.replicas * run.gpus_per_replica == 8


def test_a_model_that_needs_more_gpus_than_allowed_is_refused_with_its_layout():
    """The planner's remedies would name what the policy forbids: the rule is what must change."""
    said = refusal(a_policy(limits={"gpusPerJob": 1}), model="70b", method="lora")

    assert said == f"it would run as lora on 4 x H100-80GB-HBM3 (limits.gpusPerJob: 1){OWNER}"


def test_auto_takes_a_method_that_is_allowed():
    """lora would be taken; the policy has only qlora."""
    run = planned(a_policy(allow={"methods": ["qlora"]})).plan

    assert (run.method, run.method_reason) == ("qlora", "the cheapest that fits of qlora, which the policy allows")
    assert not any(one.summary.startswith(("lora", "full")) for one in run.alternatives)


def test_pools_and_gpu_types_that_are_not_allowed_are_not_used():
    """The cheaper pool is forbidden; without it nothing is left where only its GPUs are allowed."""
    cheap, ours = a_pool("cheap", pricePerGPUHourUSD="0.10"), a_pool("ours")

    assert planned(a_policy(allow={"pools": ["ours"]}), cheap, ours, method="lora").plan.pool.name == "ours"
    assert refusal(a_policy(allow={"gpuTypes": ["NVIDIA-L4"]}), cheap, method="lora", resources={"gpus": 1}) == (
        f"it would run on NVIDIA-H100-80GB-HBM3 (allow.gpuTypes: NVIDIA-L4){OWNER}"
    )


def test_a_plan_above_the_cost_of_a_job_is_refused():
    """By the estimate of the plan that is nearest to the limit."""
    said = refusal(a_policy(limits={"costPerJobUSD": "1.00"}), model="70b", method="lora", resources={"gpus": 8})

    assert said.startswith("lora on 8 x H100-80GB-HBM3 is estimated at $")
    assert said.endswith(f" (limits.costPerJobUSD: 1.00){OWNER}")


def test_a_plan_that_takes_too_long_is_refused():
    """70B on eight GPUs for more than an hour."""
    said = refusal(a_policy(limits={"hoursPerJob": 1}), model="405b", method="lora", resources={"gpus": 32})

    assert said.endswith(f" (limits.hoursPerJob: 1){OWNER}")


def test_money_cannot_be_limited_on_a_pool_without_a_price():
    """Neither by a policy nor by the job's own budget."""
    free = a_pool(pricePerGPUHourUSD="0")

    assert refusal(a_policy(limits={"costPerMonthUSD": "10"}), free, method="lora", resources={"gpus": 1}) == (
        f"pool h100 has no price, so that its cost cannot be limited (limits.costPerMonthUSD){OWNER}"
    )
    with pytest.raises(DoesNotFit) as refused:
        planned(a_policy(), free, method="lora", runPolicy={"budget": {"maxCostUSD": "5.00"}})
    assert refused.value.message == (
        "runPolicy.budget needs a price, and pricePerGPUHourUSD is 0 in every pool that the job may use (h100): set the price in a "
        "GPUPool, or remove the budget"
    )


def test_what_does_not_fit_without_a_policy_is_no_violation():
    """A policy is not to blame for a model that is too large."""
    small = a_pool(gpusPerNode=1, maxNodes=1)
    with pytest.raises(DoesNotFit):
        planned(a_policy(limits={"gpusPerJob": 1}), small, model="405b", method="lora")


def test_defaults_fill_what_the_job_leaves_open():
    """The job's own values win, and limits are the smaller of both."""
    policy = a_policy(
        limits={"costPerJobUSD": "100.00", "hoursPerJob": 10, "gpusPerJob": 4},
        defaults={
            "priorityClassName": "batch", "capacity": "spot",
            "labels": [{"key": "team", "value": "a"}, {"key": "center", "value": "1"}],
            "annotations": [{"key": "sidecar.istio.io/inject", "value": "false"}],
        },
    )  # fmt: skip
    plain = governed(a_spec(), policy)
    own = governed(
        a_spec(
            priorityClassName="high", resources={"capacity": "on-demand", "maxGpus": 2},
            runPolicy={"budget": {"maxCostUSD": "5.00"}, "activeDeadlineSeconds": 60},
            podMetadata={"labels": [{"key": "center", "value": "2"}]},
        ),
        policy,
    )  # fmt: skip

    assert (plain.priority_class_name, plain.resources.capacity, plain.resources.max_gpus) == ("batch", "spot", 4)
    assert plain.run_policy.budget is not None
    assert (plain.run_policy.budget.max_cost_usd, plain.run_policy.active_deadline_seconds) == ("100.00", 36_000)
    assert [(each.key, each.value) for each in plain.pod_metadata.labels] == [("team", "a"), ("center", "1")]
    assert [(each.key, each.value) for each in plain.pod_metadata.annotations] == [("sidecar.istio.io/inject", "false")]
    assert (own.priority_class_name, own.resources.capacity, own.resources.max_gpus) == ("high", "on-demand", 2)
    assert own.run_policy.budget is not None
    assert (own.run_policy.budget.max_cost_usd, own.run_policy.active_deadline_seconds) == ("5.00", 60)
    assert [(each.key, each.value) for each in own.pod_metadata.labels] == [("center", "2"), ("team", "a")]
