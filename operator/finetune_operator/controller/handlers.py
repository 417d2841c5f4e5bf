"""What is watched, and where: our own kinds by kopf, whose only importer this is, all others by `watching`. Called by process."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, cast

import kopf

from finetune_operator.api.group import GROUP, VERSION
from finetune_operator.controller.api import PAGE_ITEMS, Api
from finetune_operator.controller.connection import Connection
from finetune_operator.controller.namespaces import Namespaces
from finetune_operator.controller.resync import CLUSTER_KINDS
from finetune_operator.controller.settings import OperatorSettings
from finetune_operator.controller.stored import (
    OURS,
    PLURALS,
    POLICY_KINDS,
    QUOTA_KINDS,
    REQUIRED_KINDS,
    Kind,
    collection,
)
from finetune_operator.controller.watching import OUTAGE_SECONDS, Heard, Watch
from finetune_operator.errors import ClusterUnavailable, FinetuneError

log = logging.getLogger(__name__)

CREDENTIALS_SECONDS = 600
"""Credentials are read again so often: ServiceAccount tokens rotate."""

OPTIONAL_RETRY_SECONDS = 15
"""Between two looks at whether quotas may be read, or policies are served, by now."""

OWN_KINDS_OF_NAMESPACES: tuple[Kind, ...] = tuple(kind for kind in REQUIRED_KINDS if kind not in CLUSTER_KINDS)

OUTAGE_RETRY_SECONDS = 5
OUTAGE_RETRIES = int(OUTAGE_SECONDS / OUTAGE_RETRY_SECONDS)
"""An API server that fails for five minutes ends the process, non-zero; kopf's default would be 54 s."""


class NoDiffBase(kopf.DiffBaseStorage):  # type: ignore[misc]  # kopf exports it without types
    """Our handlers want events only: what an object was before, which kopf copies with each event, nobody asks."""

    def build(self, *, body: kopf.Body, extra_fields: object = None) -> kopf.BodyEssence:  # noqa: ARG002  # kopf's signature
        """Return nothing to compare with."""
        return cast("kopf.BodyEssence", {})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:  # noqa: ARG002  # kopf's signature
        """Return that nothing was stored."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Store nothing."""


@dataclass(slots=True)
class Watches:
    """The watches of the cluster, or of each namespace by itself, so that none can end another's."""

    settings: OperatorSettings
    connection: Connection
    heard: Heard
    refused: Callable[[], NoReturn]
    """Called when the API server keeps answering 401: kopf alone would stay as a zombie, deaf to SIGTERM."""
    namespaces: Namespaces
    readable: Callable[[str], Awaitable[bool]]
    """Tells whether a namespace can be read, and skips it where it cannot."""
    spawned: Callable[[], None]
    """Called when kopf has started: it takes the signals, which are not its to take."""

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until `stop` is set. Raises what ends a watch for good; a namespace that cannot be read is waited for."""
        configured = self.namespaces.configured
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch("", CLUSTER_KINDS if configured else REQUIRED_KINDS, stop), name="watches")
            for scope in configured or ("",):
                for name, kinds in (("quotas", QUOTA_KINDS), ("policies", POLICY_KINDS)):
                    group.create_task(
                        self._keep_optional(scope, kinds, stop), name=f"watches of {name} {scope}".strip()
                    )
            for namespace in configured:
                group.create_task(self._keep(namespace, stop), name=f"watches of {namespace}")

    async def _keep(self, namespace: str, stop: asyncio.Event) -> None:
        """Watch a namespace while it is served."""
        ended = asyncio.create_task(stop.wait())
        while not stop.is_set():
            served = asyncio.create_task(self.namespaces.until(namespace, served=True))
            await first_of(ended, served)
            if stop.is_set():
                return
            if not await self._is_readable(namespace):
                continue
            watching = asyncio.create_task(self._watch(namespace, OWN_KINDS_OF_NAMESPACES, stop))
            skipped = asyncio.create_task(self.namespaces.until(namespace, served=False))
            await first_of(watching, skipped, leave=False)
            if watching.done() and not watching.cancelled() and await self._is_readable(namespace):
                watching.result()  # it failed, and not because of the namespace

    async def _keep_optional(self, namespace: str, kinds: tuple[Kind, ...], stop: asyncio.Event) -> None:
        """Watch quotas or policies while that is possible; that there are none to be had, resync says."""
        ended = asyncio.create_task(stop.wait())
        while not stop.is_set():
            if await self._may_watch(namespace, kinds):
                watching = asyncio.create_task(self._watch(namespace, kinds, stop))
                await asyncio.wait([watching])
                if not watching.cancelled() and (error := watching.exception()) is not None:
                    log.warning(
                        "a watch ended; retrying",
                        extra={"kinds": ",".join(kinds), "namespace": namespace, "why": str(error)},
                    )
            await asyncio.wait([ended], timeout=OPTIONAL_RETRY_SECONDS)

    async def _may_watch(self, namespace: str, kinds: tuple[Kind, ...]) -> bool:
        """Tell whether some kinds can be read here."""
        api = Api(connection=self.connection)
        try:
            answers = [await api.get(collection(kind, namespace), {"limit": "1"}) for kind in kinds]
        except ClusterUnavailable:
            return False
        return all(answer.status == 200 for answer in answers)

    async def _is_readable(self, namespace: str) -> bool:
        """Tell whether a namespace can be read. Where nothing answers it may be: kopf waits for an answer."""
        try:
            return await self.readable(namespace)
        except FinetuneError:
            return True

    async def _watch(self, namespace: str, kinds: tuple[Kind, ...], stop: asyncio.Event) -> None:
        """Watch some kinds, in a namespace or everywhere, until `stop` is set or one of the watches fails."""
        own = tuple(kind for kind in kinds if kind in OURS)
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(stop.wait(), name="stop of watches")]
        for kind in (kind for kind in kinds if kind not in OURS):
            watch = Watch(Api(connection=self.connection), kind, namespace, self.heard, self._renewed)
            tasks.append(asyncio.create_task(watch.run(), name=f"watch of {PLURALS[kind]} {namespace}".strip()))
        try:
            tasks += await self._spawn_kopf(namespace, own, stop) if own else []
            await first_of(*tasks, leave=False)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _spawn_kopf(
        self, namespace: str, kinds: tuple[Kind, ...], stop: asyncio.Event
    ) -> list["asyncio.Task[Any]"]:
        """Let kopf watch some kinds; return its tasks."""
        tasks = await kopf.spawn_tasks(
            registry=self._registry(kinds),
            settings=self._kopf_settings(),
            clusterwide=not namespace,
            namespaces=[namespace] if namespace else [],
            standalone=True,
            stop_flag=stop,
        )
        self.spawned()
        return list(tasks)

    def _registry(self, kinds: tuple[Kind, ...]) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._login)
        for kind in kinds:
            plural = PLURALS[kind]
            kopf.on.event(GROUP, VERSION, plural, id=f"heard-{plural}", registry=registry)(self._listener(kind))
        return registry

    def _listener(self, kind: Kind) -> Callable[..., Coroutine[Any, Any, None]]:
        async def listen(event: dict[str, Any], **_: object) -> None:
            self.heard(kind, event["type"], dict(event["object"]))

        return listen

    def _kopf_settings(self) -> kopf.OperatorSettings:
        settings = kopf.OperatorSettings()
        settings.scanning.disabled = True  # else it needs to watch CRDs and namespaces
        settings.posting.enabled = False  # it makes one Event per message; controller.events counts repeats
        settings.persistence.diffbase_storage = NoDiffBase()
        settings.watching.chunk_size = PAGE_ITEMS
        settings.watching.server_timeout = 290  # an int: it goes out as timeoutSeconds
        settings.watching.client_timeout = 300
        settings.watching.connect_timeout = 5
        settings.watching.reconnect_backoff = 1.0
        settings.queueing.idle_timeout = 0.1  # a task per object holds its last event for so long
        settings.queueing.exit_timeout = 0.5
        settings.queueing.error_delays = (1, 2, 5, 10, 30, 60)
        settings.networking.request_timeout = 30
        settings.networking.connect_timeout = 5
        settings.networking.error_backoffs = [OUTAGE_RETRY_SECONDS] * OUTAGE_RETRIES
        settings.networking.enforce_retry_after = True
        settings.process.ultimate_exiting_timeout = None  # it kills the process if one namespace's watches are stopped
        return settings

    async def _login(self, **_: object) -> kopf.ConnectionInfo:
        """Return fresh credentials that the API server takes; never the same value twice, which kopf would refuse."""
        await self._renewed()
        configuration = self.connection.configuration
        return kopf.ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
            scheme="Bearer" if self.connection.token else None,
            token=self.connection.token or None,
            proxy_url=configuration.proxy,
            expiration=datetime.now(UTC) + timedelta(seconds=CREDENTIALS_SECONDS),
        )

    async def _renewed(self) -> None:
        """Read the credentials anew until the API server takes them; end the process where it keeps refusing them."""
        deadline = asyncio.get_running_loop().time() + self.settings.refused_seconds
        await self._reload()
        while not await self._accepted():
            if asyncio.get_running_loop().time() > deadline:
                self.refused()
            await asyncio.sleep(1)
            await self._reload()

    async def _reload(self) -> None:
        """Read the credentials anew, before they run out; those that cannot be read now may be on their way."""
        try:
            await self.connection.reload()
        except ClusterUnavailable as error:
            log.warning("credentials could not be read; retrying", extra={"why": str(error)})

    async def _accepted(self) -> bool:
        """Tell whether the API server knows us. One that does not answer is not asked twice: kopf waits for it."""
        try:
            answer = await Api(connection=self.connection).get(f"/apis/{GROUP}/{VERSION}")
        except ClusterUnavailable:
            return True
        return answer.status != 401


async def first_of(*tasks: "asyncio.Task[Any]", leave: bool = True) -> None:
    """Wait for the first of some tasks. Those that have not ended by then are cancelled unless they are left to themselves."""
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks if not leave else ():
            task.cancel()
        if not leave:
            await asyncio.gather(*tasks, return_exceptions=True)
