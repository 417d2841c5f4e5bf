"""Free loopback ports, chosen once per cluster and kept in its state folder. Called by control_plane before a start."""

import getpass
import json
import random
import socket
import tempfile
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from finetune_operator.errors import LocalClusterError
from finetune_operator.local.state import ClusterState, file_lock, read_json, write_file

HOST = "127.0.0.1"

PORT_RANGE = range(20000, 32000)
"""Below the range that Linux gives to outgoing connections (32768 to 60999), which come and go under our feet."""

HANDED_OUT = Path(tempfile.gettempdir()) / f"finetune-operator-ports-{getpass.getuser()}.json"
"""The ports that this user's processes chose lately, with the time of the choice. A port is bound only after its server has
started, seconds later, so a look at what is bound does not keep two clusters that start at once from the same choice."""

KEPT_SECONDS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a cluster keeps over its restarts."""

    etcd: int
    etcd_peer: int
    apiserver: int
    controller_manager: int
    scheduler: int
    kubelet: int
    network: int
    """Second byte of its Pods' loopback addresses: two clusters side by side do not share them."""


def settings(state: ClusterState) -> Settings:
    """Return the cluster's ports: chosen at the first start, replaced where somebody else took one since."""
    siblings = state.root.parent
    with file_lock(siblings / ".ports"):
        reserved = _reserved(state)
        kept = read_json(state.settings)
        chosen = Settings(**kept) if kept else Settings(**dict.fromkeys((f.name for f in fields(Settings)), 0))
        for field in fields(Settings):
            value = getattr(chosen, field.name)
            if field.name == "network":
                chosen = chosen if value else replace(chosen, network=random.randrange(16, 224))  # noqa: S311 no secret
            elif not value or not is_free(value):
                chosen = replace(chosen, **{field.name: free_port(reserved)})
            reserved.add(getattr(chosen, field.name))
        write_file(state.settings, json.dumps(asdict(chosen)))
    return chosen


def is_free(port: int) -> bool:
    """Whether a process could listen on a loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port(reserved: set[int]) -> int:
    """Choose a port that nobody uses, nobody reserved and no other process chose in the last minutes."""
    with file_lock(HANDED_OUT.with_suffix(".lock")):
        now = time.time()
        recent = {int(port): at for port, at in (read_json(HANDED_OUT) or {}).items() if 0 <= now - at < KEPT_SECONDS}
        port = _unused(reserved | recent.keys())
        write_file(HANDED_OUT, json.dumps(recent | {port: now}))
    return port


def _unused(taken: set[int]) -> int:
    for port in random.sample(PORT_RANGE, 1000):
        if port not in taken and is_free(port):
            return port
    raise LocalClusterError(
        f"no free port found between {PORT_RANGE.start} and {PORT_RANGE.stop} on {HOST}: stop other programs that use them"
    )


def _reserved(state: ClusterState) -> set[int]:
    """Return the ports of the other clusters beside this one, running or not."""
    others = (read_json(path) for path in state.root.parent.glob("*/settings.json") if path != state.settings)
    return {port for kept in others if kept for port in kept.values()}
