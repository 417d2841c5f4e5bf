"""ResourceQuotas and LimitRanges of the API server, as far as they count the trainer Pods of a job."""

from decimal import Decimal
from typing import Any

import pytest
from finetune_operator.controller.limits import namespace_limits
from finetune_operator.planning.quota import GIB, NamespaceLimits, PodRange, Quota

GPUS = {"requests.nvidia.com/gpu": "8"}


def a_quota(name: str = "team-a", hard: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {"kind": "ResourceQuota", "metadata": {"name": name}, "spec": {"hard": hard or GPUS, **spec}}


def a_range(*limits: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "LimitRange", "metadata": {"name": "pods"}, "spec": {"limits": list(limits)}}


def test_quantities_are_read_as_kubernetes_reads_them():
    """Gi, m and plain numbers; quotas by name, whatever the order of a list."""
    memory = a_quota("b", {"limits.memory": "64Gi", "requests.cpu": "1500m"})

    assert namespace_limits([memory, a_quota("a")], "") == NamespaceLimits(
        quotas=(
            Quota(name="a", hard=(("requests.nvidia.com/gpu", Decimal(8)),)),
            Quota(name="b", hard=(("limits.memory", Decimal(64 * GIB)), ("requests.cpu", Decimal("1.5")))),
        )
    )


@pytest.mark.parametrize(
    ("scope", "priority_class", "counts"),
    [
        ({"scopes": ["NotTerminating"]}, "", True),
        ({"scopes": ["NotBestEffort", "NotTerminating"]}, "", True),
        ({"scopes": ["Terminating"]}, "", False),
        ({"scopes": ["BestEffort"]}, "", False),
        ({"scopes": ["CrossNamespacePodAffinity"]}, "", False),
        (("In", ["high"]), "high", True),
        (("In", ["high"]), "", False),
        (("NotIn", ["high"]), "low", True),
        (("NotIn", ["high"]), "high", False),
        (("Exists", []), "low", True),
        (("Exists", []), "", False),
        (("DoesNotExist", []), "", True),
    ],
)
def test_a_quota_with_a_scope_counts_what_is_in_it(scope: Any, priority_class: str, counts: bool):
    """A quota for Pods of another kind or PriorityClass bounds no trainer."""
    if isinstance(scope, tuple):
        term = {"scopeName": "PriorityClass", "operator": scope[0], "values": scope[1]}
        scope = {"scopeSelector": {"matchExpressions": [term]}}

    found = namespace_limits([a_quota(**scope)], priority_class)

    assert [quota.name for quota in found.quotas] == (["team-a"] if counts else [])


def test_the_strictest_entry_of_a_limit_range_holds():
    """A trainer Pod has one container: limits of Pods and of containers are about the same thing; claims are not."""
    limits = a_range(
        {"type": "Pod", "max": {"memory": "64Gi"}, "min": {"cpu": "1"}},
        {"type": "Container", "max": {"memory": "32Gi", "nvidia.com/gpu": "4"}, "default": {"cpu": "1"}},
        {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}},
    )

    assert namespace_limits([limits], "").ranges == (
        PodRange(
            name="pods",
            most=(("memory", Decimal(32 * GIB)), ("nvidia.com/gpu", Decimal(4))),
            least=(("cpu", Decimal(1)),),
        ),
    )


def test_a_limit_range_of_defaults_bounds_nothing():
    """Trainer Pods have requests and limits of their own."""
    assert namespace_limits([a_range({"type": "Container", "default": {"cpu": "1"}})], "") == NamespaceLimits()
