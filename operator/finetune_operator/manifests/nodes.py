"""Which nodes our Pods keep away from, and how long they stay on one that is silent. Called by pod and preflight."""

from collections.abc import Sequence

from finetune_operator.api.pod_settings import OTHER_ARCHITECTURES
from finetune_operator.api.pools import Toleration
from finetune_operator.manifests.labels import Manifest

PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"

SILENT_SECONDS = 300
"""Kubernetes' own patience with a node that does not answer."""

SILENT_NODE: tuple[Manifest, ...] = tuple(
    {
        "key": f"node.kubernetes.io/{key}",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": SILENT_SECONDS,
    }
    for key in ("not-ready", "unreachable")
)
"""Tolerations that end a Pod on a dead node. Kubernetes adds them by itself, but not to a Pod that tolerates every taint,
which would stay there for ever."""


def away_from(avoided: tuple[str, ...]) -> Manifest:
    """Return a preference against nodes. Not a demand: where there is no other node, a bad one is tried again."""
    terms = [{"key": "metadata.name", "operator": "NotIn", "values": [name]} for name in avoided]
    return {"weight": 100, "preference": {"matchFields": terms}}


def node_affinity(architectures: Sequence[str], *preferences: Manifest) -> Manifest:
    """Return the affinity that keeps a Pod off nodes that cannot run the images, and prefers some of the others.

    By exclusion: a kubelet labels its node with both, and a node without the labels may be tried.
    """
    others = sorted(OTHER_ARCHITECTURES - set(architectures))
    terms = [
        {"key": "kubernetes.io/os", "operator": "NotIn", "values": ["windows"]},
        {"key": "kubernetes.io/arch", "operator": "NotIn", "values": others},
    ]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": terms}]}}
    return {"nodeAffinity": required | ({PREFERRED: list(preferences)} if preferences else {})}


def toleration(entry: Toleration) -> Manifest:
    """Return a toleration as Pods spell it: empty fields mean something else there."""
    return entry.model_dump(exclude_none=True, exclude_defaults=True) | {"operator": entry.operator}
