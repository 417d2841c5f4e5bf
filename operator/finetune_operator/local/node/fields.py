"""Fields that a Pod may see of itself: env fieldRef, downwardAPI files. Used by environment and volumes; pure."""

import re

from finetune_operator.local.node.kube import Raw
from finetune_operator.local.ports import HOST

_KEYED = re.compile(r"metadata\.(annotations|labels)\['([^']+)'\]")


def field_value(pod: Raw, path: str) -> str:
    """Return a field as text; an absent one is empty, as with a kubelet."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
    if match := _KEYED.fullmatch(path):
        return str(metadata.get(match[1], {}).get(match[2], ""))
    match path:
        case "metadata.name" | "metadata.namespace" | "metadata.uid":
            return str(metadata[path.removeprefix("metadata.")])
        case "metadata.annotations" | "metadata.labels":
            return _listed(metadata.get(path.removeprefix("metadata."), {}))
        case "spec.nodeName" | "spec.serviceAccountName":
            return str(spec.get(path.removeprefix("spec."), ""))
        case "status.hostIP" | "status.hostIPs":
            return HOST
        case "status.podIP" | "status.podIPs":
            return str(status.get("podIP", ""))
        case _:
            return ""


def _listed(values: dict[str, str]) -> str:
    """Return a map in the format of a downwardAPI file: sorted lines of key="value"."""
    quoted = (
        (key, value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")) for key, value in values.items()
    )
    return "\n".join(f'{key}="{value}"' for key, value in sorted(quoted))
