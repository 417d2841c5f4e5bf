"""ConfigMaps, Secrets and tokens that a Pod refers to: fetched once, then handed to pure code. Used by worker."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field

from finetune_operator.local.node.kube import Kube, Raw


class NotReady(Exception):
    """Something that the Pod refers to is not there yet: wait and look again, as a kubelet does."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Sources:
    """What was fetched, by kind (`secret`, `configMap`) and name; None: it does not exist."""

    data: dict[tuple[str, str], dict[str, bytes] | None] = field(default_factory=dict)
    tokens: dict[tuple[str, int], bytes] = field(default_factory=dict)
    """ServiceAccount tokens by audience and lifetime in seconds."""

    def get(self, kind: str, name: str) -> dict[str, bytes] | None:
        """Return the keys and values of an object; None where it does not exist."""
        return self.data.get((kind, name))


async def fetch_sources(kube: Kube, pod: Raw) -> Sources:
    """Fetch everything that the volumes and environments of a Pod refer to."""
    namespace = pod["metadata"]["namespace"]
    sources = Sources()
    for kind, name in sorted(set(references(pod))):
        answer = await kube.get(f"/api/v1/namespaces/{namespace}/{kind.lower()}s/{name}")
        if answer.status not in (200, 404):
            raise NotReady("ContainerCreating", f'failed to read {kind.lower()} "{name}": {answer.message}')
        sources.data[kind, name] = content(answer.body) if answer.ok else None
    for source in _projections(pod):
        if token := source.get("serviceAccountToken"):
            key = (token.get("audience", ""), token.get("expirationSeconds", 3600))
            sources.tokens[key] = await _token(kube, pod, *key)
    return sources


def references(pod: Raw) -> Iterator[tuple[str, str]]:
    """Tell kind and name of each ConfigMap and Secret of a Pod."""
    for volume in pod["spec"].get("volumes", []):
        if secret := volume.get("secret"):
            yield "secret", secret["secretName"]
        if config := volume.get("configMap"):
            yield "configMap", config["name"]
    for source in _projections(pod):
        for kind in ("secret", "configMap"):
            if kind in source:
                yield kind, source[kind]["name"]
    for container in (*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]):
        for entry in (*container.get("env", []), *container.get("envFrom", [])):
            yield from _of_environment(entry)


def content(item: Raw) -> dict[str, bytes]:
    """Return keys and values of a ConfigMap or Secret."""
    if item["kind"] == "Secret":
        return {key: base64.b64decode(value) for key, value in item.get("data", {}).items()}
    plain = {key: value.encode() for key, value in item.get("data", {}).items()}
    return plain | {key: base64.b64decode(value) for key, value in item.get("binaryData", {}).items()}


def _of_environment(entry: Raw) -> Iterator[tuple[str, str]]:
    origin = entry.get("valueFrom", entry)
    for kind, names in {
        "secret": ("secretKeyRef", "secretRef"),
        "configMap": ("configMapKeyRef", "configMapRef"),
    }.items():
        for name in names:
            if reference := origin.get(name):
                yield kind, reference["name"]


def _projections(pod: Raw) -> Iterator[Raw]:
    for volume in pod["spec"].get("volumes", []):
        yield from volume.get("projected", {}).get("sources", [])


async def _token(kube: Kube, pod: Raw, audience: str, seconds: int) -> bytes:
    metadata, account = pod["metadata"], pod["spec"].get("serviceAccountName", "default")
    bound = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
    spec = {"audiences": [audience] if audience else [], "expirationSeconds": seconds, "boundObjectRef": bound}
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    answer = await kube.create(f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token", body)
    if not answer.ok:
        raise NotReady("ContainerCreating", f"failed to get a token for ServiceAccount {account}: {answer.message}")
    return str(answer.body["status"]["token"]).encode()
