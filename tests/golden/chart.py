"""What helm makes of the chart for four sets of values, and the base for kustomize: what a cluster is sent.

The definitions are left out: they are crds/*.yaml. Rendering builds helm once.
"""

import functools
from pathlib import Path

import yaml

from tests.servers.helm import POOLS_SERVED, ROOT, Helm, Raw, objects

GOLDEN = Path(__file__).parent / "chart"
VALUES = ROOT / "tests/data/chart"
KUSTOMIZE = ROOT / "kustomize"
SETS = ("defaults", "high-availability", "namespaced", "air-gapped")
HEADER = "# generated from charts/finetune-operator with its default values; change those and run `make goldens`\n"
MANAGED_BY = "app.kubernetes.io/managed-by"


def options(name: str) -> tuple[str, ...]:
    """Return the options that choose a set of values."""
    return () if name == "defaults" else (f"--values={VALUES / name}.yaml", POOLS_SERVED)


@functools.cache
def rendered(name: str) -> str:
    """Return what helm makes of a set, without definitions."""
    documents = Helm().template(*options(name)).split("\n---\n")
    kept = (each for each in documents if "kind: CustomResourceDefinition" not in each and "kind: " in each)
    return "\n---\n".join(kept).strip() + "\n"


def without_helm(manifest: Raw) -> Raw:
    """Return an object without the label by which helm knows its own."""
    metadata = manifest["metadata"]
    labels = {key: value for key, value in metadata.get("labels", {}).items() if key != MANAGED_BY}
    plain = {**manifest, "metadata": metadata | ({"labels": labels} if labels else {})}
    if template := manifest.get("spec", {}).get("template"):
        plain["spec"] = manifest["spec"] | {"template": without_helm(template)}
    return plain


def kustomize_base() -> str:
    """Return the objects of the default rendering for kustomize/operator.yaml."""
    return HEADER + yaml.safe_dump_all([without_helm(each) for each in objects(rendered("defaults"))], sort_keys=False)


def files() -> dict[Path, str]:
    """Return the golden files with their texts."""
    return {GOLDEN / f"{name}.yaml": rendered(name) for name in SETS} | {KUSTOMIZE / "operator.yaml": kustomize_base()}
