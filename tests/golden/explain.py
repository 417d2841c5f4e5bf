"""What `kubectl explain` says about some fields, asked of a control plane that is started for it."""

import tempfile
from pathlib import Path

from finetune_operator.local.components import Options
from finetune_operator.local.control_plane import down, up
from finetune_operator.local.state import ClusterState

from tests.cluster.client import eventually
from tests.servers.control_plane import ControlPlane

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/data/explain"
EXPLAINED = (
    "ftj",
    "ftj.spec.training.learningRate",
    "ftj.spec.datasets.columns",
    "ftj.spec.method",
    "ftpl.plan.vram",
    "gpupool.spec.capacity",
)


def explained(cluster: ControlPlane, path: str) -> str:
    """Return what is said about a field, once the API server knows the kind."""
    return eventually(lambda: cluster.kubectl("explain", path, check=False).stdout, f"kubectl explain {path} answers")


def files() -> dict[Path, str]:
    """Return the golden files with their texts."""
    with tempfile.TemporaryDirectory() as folder:
        state = ClusterState(Path(folder) / "goldens")
        up(state, Options(node=False), say=print)
        try:
            cluster = ControlPlane(state)
            cluster.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
            return {GOLDEN / f"{path}.txt": explained(cluster, path) for path in EXPLAINED}
        finally:
            down(state, say=print)
