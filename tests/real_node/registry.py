"""From buildah's store into the nodes: a registry, and a containerd store that is unpacked once and lent to every node.

The trainer's image has 6.4 GB. What was pushed and unpacked once is kept: a later run sends and unpacks only the layers
that changed, and each node gets the store as hard links, which take no room and no time. A node's kubelet still pulls by
digest from the registry; it finds the layers on its disk, as on a node that ran the image before. Called by cluster.
"""

import json
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finetune_operator.local.ports import HOST, free_port, is_free
from finetune_operator.local.processes import CLUSTER_MARK, kill_all, marked, recall, stop
from finetune_operator.local.state import ClusterState

from tests.cluster.client import eventually
from tests.real_node.images import Image
from tests.real_node.programs import kept, run, spawn

SECONDS = 1800
"""Longest time to push or to unpack one image."""

STORE_RUN = Path("/run/finetune-store")


def start_registry(state: ClusterState, program: Path) -> str:
    """Serve images from a folder that outlives the cluster. Returns host:port; plain HTTP, which containerd takes there."""
    storage = kept() / "registry"
    storage.mkdir(parents=True, exist_ok=True)
    port = registry_port()
    settings = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(storage)}},
        "http": {"addr": f"{HOST}:{port}"},
    }
    path = state.root / "registry.yml"
    path.write_text(json.dumps(settings))
    spawn(state, "registry", [str(program), "serve", str(path)], OTEL_TRACES_EXPORTER="none")
    eventually(lambda: answers(f"http://{HOST}:{port}/v2/"), "the registry answers", 30)
    return f"localhost:{port}"


def registry_port() -> int:
    """Return the port of the last time where it is free: buildah remembers by host and port which layers a registry has."""
    note = kept() / "registry.port"
    port = int(note.read_text()) if note.exists() else 0
    if not port or not is_free(port):
        port = free_port(set())
        note.write_text(str(port))
    return port


def stop_registry(state: ClusterState) -> None:
    """End it, and whatever else runs for this state."""
    kill_all(marked(CLUSTER_MARK, str(state.root)))


def answers(url: str) -> bool:
    """Whether a URL answers with success."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def push(image: Image, registry: str) -> str:
    """Push an image and return how a Pod names it: by digest. What the registry has is not sent again."""
    identity = run("buildah", "images", "--quiet", "--no-trunc", image.local).strip()
    note = kept() / f"{image.name}.pushed"
    if not note.exists() or note.read_text().split()[0] != identity:
        with tempfile.NamedTemporaryFile() as digest:
            run(
                *("buildah", "push", "--quiet", "--tls-verify=false"),
                *("--digestfile", digest.name, image.local, f"docker://{registry}/{image.name}"),
                seconds=SECONDS,
            )
            note.write_text(f"{identity} {Path(digest.name).read_text().strip()}")
    return f"{registry}/{image.name}@{note.read_text().split()[1]}"


def unpack(state: ClusterState, images: list[str]) -> None:
    """Bring the kept store to where it holds these images, unpacked, and no others of ours."""
    store, note = kept() / "store", kept() / "store.json"
    wanted = sorted(image.split("@")[1] for image in images)
    if store.exists() and note.exists() and json.loads(note.read_text()) == wanted:
        return
    note.unlink(missing_ok=True)
    with serving(state, store) as socket:
        ctr = ("ctr", "-a", socket, "-n", "k8s.io", "images")
        before = run(*ctr, "ls", "-q").split()
        for image in images:
            if not any(name.endswith(image.split("@")[1]) for name in before):
                run(*ctr, "pull", "--plain-http", image, seconds=SECONDS)
        for name in before:
            if name.split("@")[-1] not in wanted:
                run(*ctr, "rm", "--sync", name, seconds=SECONDS)
    note.write_text(json.dumps(wanted))


@contextmanager
def serving(state: ClusterState, store: Path) -> Iterator[Path]:
    """Run a containerd over the kept store, without a kubelet."""
    store.mkdir(parents=True, exist_ok=True)
    socket, settings = state.root / "store.sock", state.root / "store.toml"
    settings.write_text(
        f'version = 2\nroot = "{store}"\nstate = "{STORE_RUN}"\noom_score = 0\n'
        f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{socket}"\n'
    )
    spawn(state, "containerd-store", ["containerd", f"--config={settings}"])
    eventually(lambda: "Server" in run("ctr", "-a", socket, "version", check=False), "the store serves", 60)
    try:
        yield socket
    finally:
        if process := recall(state.pids / "containerd-store"):
            stop(process, seconds=30)
        shutil.rmtree(STORE_RUN, ignore_errors=True)


def lend(target: Path) -> None:
    """Make the store of a node: hard links to the kept one, which is only read; its indexes are copied."""
    shutil.rmtree(target, ignore_errors=True)
    run("cp", "--archive", "--link", kept() / "store", target, seconds=SECONDS)
    for index in (kept() / "store").glob("io.containerd.*/*.db"):
        own = target / index.relative_to(kept() / "store")
        own.unlink()
        shutil.copy2(index, own)
