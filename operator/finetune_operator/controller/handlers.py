"""The only importer of kopf: its watches deliver events, nothing else of it is used. Called by process."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import kopf

from finetune_operator.api.group import GROUP, JOB_PLURAL, POOL_PLURAL, VERSION
from finetune_operator.controller.api import Api
from finetune_operator.controller.connection import Connection
from finetune_operator.controller.resync import OUR_CHILDREN
from finetune_operator.controller.settings import OperatorSettings
from finetune_operator.controller.store import Kind
from finetune_operator.errors import ClusterUnavailable

log = logging.getLogger(__name__)

WATCHED: dict[Kind, tuple[str, str, str]] = {
    "FineTuneJob": (GROUP, VERSION, JOB_PLURAL),
    "GPUPool": (GROUP, VERSION, POOL_PLURAL),
    "Pod": ("", "v1", "pods"),
    "Service": ("", "v1", "services"),
}

CREDENTIALS_SECONDS = 600
"""Credentials are read again so often: ServiceAccount tokens rotate."""

OUTAGE_RETRIES = 60
OUTAGE_RETRY_SECONDS = 5
"""An API server that fails for five minutes ends the process, non-zero; the default would be 54 s (facts 0.1.3)."""

Heard = Callable[[Kind, str | None, dict[str, Any]], None]
"""Called with kind, event type (None: from a list) and object."""


@dataclass(slots=True)
class Watches:
    """kopf, reduced to watches. `heard` gets every event; `start` returns what runs until `stop` is set."""

    settings: OperatorSettings
    connection: Connection
    heard: Heard
    refused: Callable[[], NoReturn]
    """Called when the API server keeps answering 401: kopf alone would stay as a zombie, deaf to SIGTERM."""

    async def start(self, stop: asyncio.Event) -> Coroutine[Any, Any, None]:
        """Spawn kopf's tasks. Awaiting the result ends when kopf does, with its exception if it failed."""
        others = asyncio.all_tasks()
        tasks = await kopf.spawn_tasks(
            registry=self._registry(),
            settings=self._kopf_settings(),
            clusterwide=not self.settings.namespaces,
            namespaces=list(self.settings.namespaces),
            standalone=True,
            stop_flag=stop,
        )
        running: Coroutine[Any, Any, None] = kopf.run_tasks(tasks, ignored=others)
        return running

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._login)
        for kind, (group, version, plural) in WATCHED.items():
            kopf.on.event(group, version, plural, id=f"heard-{plural}", registry=registry)(self._listener(kind))
        return registry

    def _listener(self, kind: Kind) -> Callable[..., Coroutine[Any, Any, None]]:
        async def listen(event: dict[str, Any], **_: object) -> None:
            self.heard(kind, event["type"], dict(event["object"]))

        return listen

    def _kopf_settings(self) -> kopf.OperatorSettings:
        settings = kopf.OperatorSettings()
        settings.scanning.disabled = True  # else it needs to watch CRDs and namespaces
        settings.posting.enabled = False  # it makes one Event per message; controller.events counts repeats
        settings.watching.server_timeout = 290  # an int: it goes out as timeoutSeconds
        settings.watching.client_timeout = 300
        settings.watching.connect_timeout = 5
        settings.watching.reconnect_backoff = 1.0
        settings.queueing.idle_timeout = 1.0
        settings.queueing.exit_timeout = 0.5
        settings.queueing.error_delays = (1, 2, 5, 10, 30, 60)
        settings.networking.request_timeout = 30
        settings.networking.connect_timeout = 5
        settings.networking.error_backoffs = [OUTAGE_RETRY_SECONDS] * OUTAGE_RETRIES
        settings.networking.enforce_retry_after = True
        settings.process.ultimate_exiting_timeout = 10
        for kind in ("pods", "services"):
            settings.watching.label_selectors["", "v1", kind] = OUR_CHILDREN
        return settings

    async def _login(self, **_: object) -> kopf.ConnectionInfo:
        """Return fresh credentials that the API server takes; never the same value twice, which kopf would refuse."""
        deadline = asyncio.get_running_loop().time() + self.settings.refused_seconds
        await self._reload()
        while not await self._accepted():
            if asyncio.get_running_loop().time() > deadline:
                self.refused()
            await asyncio.sleep(1)
            await self._reload()
        configuration = self.connection.configuration
        return kopf.ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
            scheme="Bearer" if self.connection.token else None,
            token=self.connection.token or None,
            expiration=datetime.now(UTC) + timedelta(seconds=CREDENTIALS_SECONDS),
        )

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
