"""Addresses of Pods: one on the loopback that works, one for Pod status that the API server accepts. Used by worker.

Nobody resolves Service names here, so they are replaced in env values by the loopback address of the Pod they name.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from finetune_operator.local.node.kube import Raw
from finetune_operator.local.state import read_json, write_file

POD_NETWORK = "10.244"
"""EndpointSlices refuse loopback addresses, so Pod status shows one of these. Nothing listens there."""

LARGEST = 255 * 254


@dataclass
class Addresses:
    """Numbers Pods by host name; the file keeps the numbers over a restart of the node."""

    path: Path
    network: int
    """Second byte of the loopback addresses of this cluster."""
    _numbers: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._numbers.update(read_json(self.path) or {})

    def loopback(self, host: str) -> str:
        """Return the address on which a Pod can listen; it may be asked for before the Pod exists."""
        return f"127.{self.network}.{_bytes(self._number(host))}"

    def reported(self, host: str) -> str:
        """Return the address for Pod status."""
        return f"{POD_NETWORK}.{_bytes(self._number(host))}"

    def release(self, host: str) -> None:
        """Give a number back; its Pod is gone."""
        if self._numbers.pop(host, None) is not None:
            write_file(self.path, json.dumps(self._numbers))

    def _number(self, host: str) -> int:
        if host not in self._numbers:
            taken = set(self._numbers.values())
            self._numbers[host] = next(number for number in range(1, LARGEST) if number not in taken)
            write_file(self.path, json.dumps(self._numbers))
        return self._numbers[host]


def host_of(pod: Raw) -> str:
    """Return the key of a Pod's address: its name behind its headless Service, or its own name."""
    namespace, spec = pod["metadata"]["namespace"], pod["spec"]
    if spec.get("subdomain"):
        return f"{namespace}/{spec.get('hostname', pod['metadata']['name'])}.{spec['subdomain']}"
    return f"{namespace}/{pod['metadata']['name']}"


def without_service_names(text: str, pod: Raw, loopback: Callable[[str], str]) -> str:
    """Replace HOST.SERVICE[.NAMESPACE[.svc[.cluster.local]]] by addresses, for the Pod's own headless Service."""
    service, namespace = pod["spec"].get("subdomain"), pod["metadata"]["namespace"]
    if not service:
        return text
    name = re.compile(
        rf"(?<![\w.-])([a-z0-9](?:[-a-z0-9]*[a-z0-9])?)\.{re.escape(service)}"
        rf"(?:\.{re.escape(namespace)}(?:\.svc(?:\.cluster\.local\.?)?)?)?(?![\w-]|\.\w)"
    )
    return name.sub(lambda match: loopback(f"{namespace}/{match[1]}.{service}"), text)


def _bytes(number: int) -> str:
    """Spell a number as the last two bytes of an address, never ending in 0 or 255."""
    high, low = divmod(number - 1, 254)
    return f"{high}.{low + 1}"
