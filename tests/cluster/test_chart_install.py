"""helm install, upgrade and uninstall on a cluster that has never seen our kinds: pools, definitions and jobs over time."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from finetune_operator.local.components import Options
from finetune_operator.local.control_plane import down, up
from finetune_operator.local.state import ClusterState

from tests.cluster.plays import a_job
from tests.golden.chart import KUSTOMIZE
from tests.servers.control_plane import ControlPlane
from tests.servers.helm import CHART, RELEASE, SYSTEM, Helm

pytestmark = pytest.mark.cluster

POOL = (
    "{gpuType: NVIDIA-L4, gpusPerNode: 1, maxNodes: %d, node: {cpus: 8, memoryGiB: 30, ephemeralGiB: 100},"
    ' pricePerGPUHourUSD: "0.70"}'
)
GPUPOOLS = "gpupools.finetune.dev"


@pytest.fixture
def fresh(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ControlPlane]:
    """A control plane of the test's own, without our definitions; a parameter is a flag for its API server."""
    state = ClusterState(tmp_path / "fresh")
    up(state, Options(node=False, apiserver_flags=tuple(getattr(request, "param", ()))), say=print)
    try:
        yield ControlPlane(state)
    finally:
        down(state, say=print)


@pytest.fixture
def release(fresh: ControlPlane, tmp_path: Path) -> "Release":
    return Release(fresh, tmp_path / "values.yaml")


class Release:
    """One release of the chart; nothing runs its Pods."""

    def __init__(self, plane: ControlPlane, values: Path) -> None:
        self.plane, self.values, self.helm = plane, values, Helm(plane.kubeconfig)

    def upgrade(self, **pools: int) -> None:
        """Install, or upgrade to these pools of so many nodes."""
        lines = [f"  {name}: {POOL % nodes}\n" for name, nodes in pools.items()]
        self.values.write_text("gpuPools:\n" + "".join(lines) if pools else "{}\n")
        where = ("-n", SYSTEM, "--create-namespace")
        self.helm.ok("upgrade", "--install", RELEASE, str(CHART), *where, "--reset-values", f"--values={self.values}")

    def uninstall(self) -> None:
        self.helm.ok("uninstall", RELEASE, "-n", SYSTEM)

    def pools(self) -> dict[str, int]:
        """Return nodes by pool, as the API server has them."""
        return {each["metadata"]["name"]: each["spec"]["maxNodes"] for each in self.plane.get(GPUPOOLS)["items"]}


def test_pools_come_with_the_first_install_and_follow_the_values(release: Release):
    """First install, upgrade, removal, uninstall, install again: the pools are always those of the values."""
    release.upgrade(small=2)
    assert release.pools() == {"small": 2}
    release.upgrade(small=3, large=9)
    assert release.pools() == {"small": 3, "large": 9}
    release.upgrade(large=9)
    assert release.pools() == {"large": 9}
    release.uninstall()
    assert release.pools() == {}
    release.upgrade(large=5)
    assert release.pools() == {"large": 5}


def test_definitions_and_jobs_outlive_the_release(release: Release):
    """Uninstalling takes the operator away, not the users' work; the next install takes the definitions over."""
    release.upgrade(small=2)
    release.plane.apply(a_job("kept") | {"metadata": {"name": "kept", "namespace": "default"}})
    release.uninstall()
    kept = release.plane.get("ftj", "kept", "-n", "default")
    left = release.plane.kubectl(
        "get", "deployment,role,serviceaccount,gpupools", "-n", SYSTEM, "-o", "name"
    ).stdout.split()
    release.upgrade(small=4)

    assert kept["spec"]["model"]["source"] == "hf://test/tiny"
    assert left == ["serviceaccount/default", f"gpupool.{GPUPOOLS.partition('.')[2]}/small"]
    assert release.plane.get("ftj", "kept", "-n", "default")["metadata"]["uid"] == kept["metadata"]["uid"]
    assert release.pools() == {"small": 4}


def test_a_pool_that_is_refused_can_be_mended(release: Release):
    """What only the API server's rules catch fails the first install; the corrected values install."""
    release.values.write_text(f"gpuPools:\n  bad: {POOL.replace('0.70', '-1') % 1}\n")
    where = (RELEASE, str(CHART), "-n", SYSTEM, "--create-namespace")
    failed = release.helm.run("install", *where, f"--values={release.values}")
    release.upgrade(good=1)

    assert failed.returncode == 1
    assert 'GPUPool.finetune.dev "bad" is invalid: spec.pricePerGPUHourUSD' in failed.stderr
    assert release.pools() == {"good": 1}


@pytest.mark.parametrize("fresh", [("--apiserver-count=2",)], indirect=True)
def test_an_install_that_waits_makes_pools_where_new_kinds_are_served_late(release: Release):
    """One of several API servers waits five seconds before it serves a new kind; without a kubelet there is no Pod to wait for."""
    release.values.write_text(f"replicas: 0\ngpuPools:\n  small: {POOL % 2}\n")
    where = (RELEASE, str(CHART), "-n", SYSTEM, "--create-namespace")
    release.helm.ok("install", *where, "--wait", f"--values={release.values}")

    assert release.pools() == {"small": 2}


def test_the_kustomize_base_installs(fresh: ControlPlane):
    """`kubectl apply -k` on a cluster that has none of it, in one go."""
    fresh.kubectl("apply", "--server-side", "--validate=strict", "-k", str(KUSTOMIZE))
    fresh.kubectl("wait", "--for=condition=Established", "crd/finetunejobs.finetune.dev", "--timeout=30s")

    assert fresh.get("deployment", RELEASE, "-n", SYSTEM)["spec"]["replicas"] == 1
    assert fresh.get("finetunejobs", "-A")["items"] == []
