"""What a pool adds to trainer Pods."""

from typing import Any

import pytest
from finetune_operator.api.pool_pod import PoolPodSettings
from finetune_operator.api.pools import GPUPoolSpec
from finetune_operator.manifests.children import children
from pydantic import ValidationError

from tests.unit.manifests.manifest_builders import RICH, a_pinned_job

SETTINGS = {
    "runtimeClassName": "nvidia",
    "schedulerName": "volcano",
    "imagePullSecrets": ["registry"],
    "resources": [{"key": "rdma/ib", "quantity": 2}],
    "environment": [{"key": "NCCL_IB_HCA", "value": "mlx5"}],
    "caBundle": {"configMap": "company-ca"},
    "labels": [{"key": "cost-centre", "value": "research"}],
    "annotations": [{"key": "sidecar.istio.io/inject", "value": "false"}],
}


def trainer(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the first trainer Pod of a job on a pool with these settings."""
    job = a_pinned_job(**RICH)
    assert job.status.plan is not None
    pool = job.status.plan.pool.model_copy(update={"pod": PoolPodSettings.model_validate(settings)})
    plan = job.status.plan.model_copy(update={"pool": pool})
    status = job.status.model_copy(update={"plan": plan})
    pinned = job.model_copy(update={"status": status})
    return next(each for each in children(pinned, status, 0) if each["kind"] == "Pod")


def test_a_pod_has_what_its_pool_says():
    """Each field ends where Kubernetes, NCCL and Python's libraries look for it."""
    pod = trainer(SETTINGS)
    spec, container = pod["spec"], pod["spec"]["containers"][0]
    environment = {each["name"]: each["value"] for each in container["env"]}

    assert (spec["runtimeClassName"], spec["schedulerName"]) == ("nvidia", "volcano")
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert container["resources"]["limits"]["rdma/ib"] == container["resources"]["requests"]["rdma/ib"] == "2"
    assert environment["NCCL_IB_HCA"] == "mlx5"
    assert {environment[name] for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE")} == {
        "/etc/finetune-ca/ca.crt"
    }
    assert {"name": "ca-bundle", "mountPath": "/etc/finetune-ca", "readOnly": True} in container["volumeMounts"]
    items = [{"key": "ca.crt", "path": "ca.crt"}]
    assert {"name": "ca-bundle", "configMap": {"name": "company-ca", "items": items}} in spec["volumes"]
    assert pod["metadata"]["labels"]["cost-centre"] == "research"
    assert pod["metadata"]["annotations"]["sidecar.istio.io/inject"] == "false"


def test_a_pool_of_vgpus_turns_expandable_segments_off():
    """Its value takes the place of ours: of two variables of one name the kubelet keeps the last."""
    mine = {"key": "PYTORCH_ALLOC_CONF", "value": "pinned_max_round_threshold_mb:64"}
    environments = [trainer(pod)["spec"]["containers"][0]["env"] for pod in ({}, {"environment": [mine]})]

    assert [[each["value"] for each in found if each["name"] == "PYTORCH_ALLOC_CONF"] for found in environments] == [
        ["expandable_segments:True,pinned_max_round_threshold_mb:64"],
        ["pinned_max_round_threshold_mb:64"],
    ]


def test_a_pool_that_says_nothing_adds_nothing():
    """The fields are absent, not empty."""
    pod = trainer({})

    assert {"runtimeClassName", "schedulerName", "imagePullSecrets"}.isdisjoint(pod["spec"])
    assert "ca-bundle" not in [each["name"] for each in pod["spec"]["volumes"]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"environment": [{"key": "RANK", "value": "0"}]}, "must be a variable of the network"),
        ({"labels": [{"key": "finetune.dev/role", "value": "x"}]}, "must not belong to finetune.dev or kubernetes.io"),
        ({"annotations": [{"key": "finetune.dev/run", "value": "x"}]}, "must not belong to finetune.dev"),
        ({"resources": [{"key": "nvidia.com/gpu", "quantity": 8}]}, "must not be a GPU"),
        ({"hostNetwork": True}, "Extra inputs are not permitted"),
    ],
)
def test_what_the_operator_decides_cannot_be_set(settings: dict[str, Any], message: str):
    """An entry that would be overwritten is refused, not ignored."""
    with pytest.raises(ValidationError, match=message):
        PoolPodSettings.model_validate(settings)


@pytest.mark.parametrize(
    ("pod", "between", "gbps"),
    [
        ({}, "ethernet", 25),
        ({"resources": [{"key": "vpc.amazonaws.com/efa", "quantity": 32}]}, "efa", 3200),
        ({"resources": [{"key": "example.com/fpga", "quantity": 1}]}, "ethernet", 25),
    ],
)
def test_a_fast_network_counts_only_where_pods_request_it(pod: dict[str, Any], between: str, gbps: int):
    """NCCL falls back to TCP without a word where the Pod has no device."""
    spec = GPUPoolSpec.model_validate({
        "gpuType": "H100", "gpusPerNode": 8, "maxNodes": 2, "node": {"cpus": 96, "memoryGiB": 900, "ephemeralGiB": 900},
        "interconnect": {"betweenNodes": "efa", "betweenNodesGbps": 3200}, "pricePerGPUHourUSD": "2", "pod": pod,
    })  # fmt: skip

    assert (spec.reached.between_nodes, spec.reached.between_nodes_gbps) == (between, gbps)
