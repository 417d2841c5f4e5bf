"""Which nodes our Pods keep away from, and how long they stay on one that is silent. Called by pod and preflight."""

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
