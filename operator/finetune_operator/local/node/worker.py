"""The life of one Pod on this node: prepare, run init containers, run containers, report, end. Called by pods."""

import asyncio
import contextlib
import json
import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from finetune_operator.local.node.addresses import Addresses, host_of, without_service_names
from finetune_operator.local.node.containers import CREATING, Container, ContainerState
from finetune_operator.local.node.environment import declared, launch, node_environment
from finetune_operator.local.node.kube import STRATEGIC, Kube, Raw
from finetune_operator.local.node.logs import log_tail
from finetune_operator.local.node.rewriting import with_folders
from finetune_operator.local.node.sources import NotReady, fetch_sources
from finetune_operator.local.node.status import Observed, pod_status
from finetune_operator.local.node.volumes import make_volumes, mounts, unsupported
from finetune_operator.local.state import ClusterState, read_json, write_file

TERMINATION_MESSAGE_BYTES = 4096
FALLBACK_LINES, FALLBACK_BYTES = 80, 2048
"""What a kubelet takes from the log where FallbackToLogsOnError applies."""

RETRY_SECONDS = 1.0
FINISHED = ("Succeeded", "Failed")

logger = logging.getLogger("finetune.node")


@dataclass
class Worker:
    """Runs one Pod. All that must outlive this object is in the Pod's folder."""

    kube: Kube
    state: ClusterState
    addresses: Addresses
    pod: Raw
    """As last seen; pods replaces it at every change."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _final: Observed | None = None

    @property
    def uid(self) -> str:
        """Identity of the Pod: a later one may have the same name."""
        return str(self.pod["metadata"]["uid"])

    @property
    def path(self) -> str:
        """Where the API server has it."""
        metadata = self.pod["metadata"]
        return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"

    @cached_property
    def folder(self) -> Path:
        """Where all of it is kept."""
        return pod_folder(self.state, self.pod)

    @cached_property
    def started_at(self) -> str:
        """When this node first saw the Pod."""
        known = self.pod.get("status", {}).get("startTime")
        return str(known or _now())

    def container(self, name: str) -> Container:
        """Return one of its containers."""
        return Container(self.folder / "containers" / name)

    @property
    def deleted(self) -> bool:
        """Whether somebody asked for its end."""
        return "deletionTimestamp" in self.pod["metadata"]

    async def live(self) -> None:
        """Take the Pod from bound to gone. Cancelled when the node stops: its processes run on."""
        running = asyncio.create_task(self._run())
        try:
            while not self.deleted and not self._overdue():
                await self._notice(until=running)
            if not self.deleted and not running.done():
                await self._end_overdue(running)
            while not self.deleted:
                await self._notice()
            await self._end(running)
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    def discard(self) -> None:
        """Kill what is left of the Pod and forget it: the API server has."""
        for spec in _containers(self.pod):
            self.container(spec["name"]).kill()
            self.container(spec["name"]).state()
        self.addresses.release(host_of(self.pod))
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _run(self) -> None:
        """Run the Pod to its end and report it; nothing that was begun by an earlier node is begun again."""
        if self.pod["status"].get("phase") in FINISHED:
            return
        if problem := unsupported(self.pod):
            await self._fail("UnsupportedPod", problem)
            return
        await self._prepared()
        for spec in self.pod["spec"].get("initContainers", []):
            if not (await self._finish(spec)).succeeded:
                return
        main = self.pod["spec"]["containers"]
        await asyncio.gather(*(self.container(spec["name"]).start() for spec in main))
        await self.report()
        await asyncio.gather(*(self._finish(spec) for spec in main))

    async def _finish(self, spec: Raw) -> ContainerState:
        """Run one container to its end, reporting start and end."""
        container = self.container(spec["name"])
        if not container.began:
            await container.start()
            await self.report()
        state = await container.wait()
        await self.report()
        return state

    async def _prepared(self) -> None:
        """Make folders, volumes and command lines; wait for what is missing, and say what that is."""
        marker = self.folder / "prepared"
        while not marker.exists():
            try:
                await self._prepare()
            except NotReady as missing:
                await self.report(waiting=replace(CREATING, reason=missing.reason, message=missing.message))
                await asyncio.sleep(RETRY_SECONDS)
            else:
                marker.touch()
        await self.report()

    async def _prepare(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(self.folder / "pod.json", json.dumps(self.pod))
        sources = await fetch_sources(self.kube, self.pod)
        host = host_of(self.pod)
        seen = self.pod | {"status": self.pod["status"] | {"podIP": self.addresses.reported(host)}}
        volumes = make_volumes(seen, sources, folder=self.folder / "volumes", claims=self.state.claims)
        for spec in _containers(self.pod):
            container = self.container(spec["name"])
            folders = mounts(spec, volumes) | {
                spec.get("terminationMessagePath", "/dev/termination-log"): str(container.termination_message)
            }

            def place(text: str, folders: dict[str, str] = folders) -> str:
                return without_service_names(with_folders(text, folders), self.pod, self.addresses.loopback)

            values = declared(spec, seen, sources)
            home = node_environment(container.folder / "home")
            container.prepare(launch(spec, values=values, node_env=home, place=place))

    async def report(self, *, waiting: ContainerState | None = None) -> None:
        """Write the Pod's status; try until the API server takes it or the Pod is gone."""
        body = {"metadata": {"uid": self.uid}, "status": pod_status(self.pod, self._observed(waiting), _now())}
        while True:
            answer = await self.kube.patch(f"{self.path}/status", body, STRATEGIC)
            if answer.ok:
                self.pod = answer.body | {"kind": "Pod"}
                return
            if answer.status in (404, 409):  # gone, or another Pod of this name
                return
            logger.warning("status of %s: %s", self.path, answer.message)
            await asyncio.sleep(RETRY_SECONDS)

    def _observed(self, waiting: ContainerState | None) -> Observed:
        if self._final:
            return self._final
        specs = _containers(self.pod)
        states = {spec["name"]: self._state(spec) for spec in specs if self.container(spec["name"]).began}
        if waiting:
            states |= {spec["name"]: waiting for spec in specs if spec["name"] not in states}
        address = self.addresses.reported(host_of(self.pod))
        return Observed(states=states, started_at=self.started_at, address=address)

    def _state(self, spec: Raw) -> ContainerState:
        """Return a container's state with its termination message."""
        container = self.container(spec["name"])
        state = container.state()
        if state.phase != "terminated" or state.message:
            return state
        message = _tail(container.termination_message)
        if not message and state.exit_code and spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            message = log_tail(container.log, lines=FALLBACK_LINES)[-FALLBACK_BYTES:].decode(errors="replace")
        return replace(state, message=message)

    async def _fail(self, reason: str, message: str) -> None:
        self._final = replace(self._observed(None), reason=reason, message=message)
        await self.report()

    async def _notice(self, until: "asyncio.Task[None] | None" = None) -> None:
        """Wait for a change of the Pod, or for a deadline."""
        self.changed.clear()
        if until and until.done() and not until.cancelled() and (error := until.exception()):
            raise error
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.changed.wait(), timeout=RETRY_SECONDS)

    def _overdue(self) -> bool:
        seconds = self.pod["spec"].get("activeDeadlineSeconds")
        if seconds is None or self.pod["status"].get("phase") in FINISHED:
            return False
        return (datetime.now(UTC) - _time(self.started_at)).total_seconds() > float(seconds)

    async def _end_overdue(self, running: "asyncio.Task[None]") -> None:
        await self._stop(running, seconds=self.pod["spec"].get("terminationGracePeriodSeconds", 30))
        await self._fail("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")

    async def _end(self, running: "asyncio.Task[None]") -> None:
        """End the Pod gracefully, report how it ended, and let the API server forget it."""
        # one second more than asked, because the deadline comes in whole seconds
        left = (_time(self.pod["metadata"]["deletionTimestamp"]) - datetime.now(UTC)).total_seconds() + 1
        await self._stop(running, seconds=left)
        if self.pod["status"].get("phase") not in FINISHED:
            await self.report()
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        while (await self.kube.delete(self.path, options)).status not in (200, 202, 404, 409):  # noqa: ASYNC110
            await asyncio.sleep(RETRY_SECONDS)

    async def _stop(self, running: "asyncio.Task[None]", *, seconds: float) -> None:
        """SIGTERM all containers, SIGKILL them after some seconds; none is started any more."""
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        alive = [container for spec in _containers(self.pod) if (container := self.container(spec["name"])).supervisor]
        for container in alive:
            container.terminate()
        ends = [asyncio.create_task(container.wait()) for container in alive]
        if ends:
            _, late = await asyncio.wait(ends, timeout=max(0.0, seconds))
            if late:
                for container in alive:
                    container.kill()
                await asyncio.wait(late)


def pod_folder(state: ClusterState, pod: Raw) -> Path:
    """Return the folder of a Pod."""
    metadata = pod["metadata"]
    return state.pods / f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"


def saved_pods(state: ClusterState) -> Iterable[Raw]:
    """Tell the Pods that have a folder."""
    return [pod for path in state.pods.glob("*/pod.json") if (pod := read_json(path))]


def _containers(pod: Raw) -> list[Raw]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def _tail(path: Path) -> str:
    """Return the end of a termination message, as much as a kubelet reads."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()[-TERMINATION_MESSAGE_BYTES:].decode(errors="replace")
    return ""


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
