"""The operator process: puts the parts together, starts them in order, and ends them in order. Called by cli.run."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, NoReturn

from aiohttp import web as http

from finetune_operator.controller import web
from finetune_operator.controller.api import Api
from finetune_operator.controller.asking import Asking
from finetune_operator.controller.cluster import Cluster
from finetune_operator.controller.connection import Connection, connect
from finetune_operator.controller.events import Recorder
from finetune_operator.controller.gauges import keep_counting
from finetune_operator.controller.handlers import Watches
from finetune_operator.controller.leader import Lease
from finetune_operator.controller.namespaces import Namespaces
from finetune_operator.controller.policies import Policies
from finetune_operator.controller.pools import Pools
from finetune_operator.controller.progress import ProgressReader
from finetune_operator.controller.queue import WorkQueue
from finetune_operator.controller.reconcile import Reconciler
from finetune_operator.controller.resync import Resync
from finetune_operator.controller.settings import OperatorSettings
from finetune_operator.controller.startup import answered, require_crds, settle_memory
from finetune_operator.controller.store import Store
from finetune_operator.controller.stored import QUOTA_KINDS, Kind, Stored
from finetune_operator.controller.tracing import tracing
from finetune_operator.controller.warnings import Warnings
from finetune_operator.errors import FinetuneError

log = logging.getLogger(__name__)

PASSES_SECONDS = 2.5
"""How long passes in progress may take to end after SIGTERM."""

STOP_SECONDS = 4.5
"""The process is gone after so long, whatever hangs."""


async def run_operator(settings: OperatorSettings) -> int:
    """Run until SIGTERM or SIGINT (returns 0) or until something fails for good (returns 1)."""
    connection = await connect(settings.kubeconfig, settings.context)
    try:
        return await Operator(settings=settings, connection=connection).run()
    finally:
        await connection.close()


@dataclass(slots=True)
class Operator:
    """All parts of one operator process."""

    settings: OperatorSettings
    connection: Connection
    store: Store = field(default_factory=Store)
    queue: WorkQueue = field(default_factory=WorkQueue)
    synced: bool = False
    """The store was compared with the API server at least once, and we lead."""
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list["asyncio.Task[Any]"] = field(default_factory=list)
    _asked: set["asyncio.Task[None] | None"] = field(default_factory=set)
    _watched: set[str] = field(default_factory=set)
    namespaces: Namespaces = field(init=False)
    lease: Lease | None = field(init=False, default=None)
    api: Api = field(init=False)
    cluster: Cluster = field(init=False)
    resync: Resync = field(init=False)
    pools: Pools = field(init=False)
    policies: Policies = field(init=False)
    asking: Asking = field(init=False)

    def __post_init__(self) -> None:
        self.namespaces = Namespaces(self.settings.namespaces)
        self.queue.name_of = self.name_of
        settings, identity = self.settings, f"{socket.gethostname()}-{os.getpid()}"
        if settings.leader_election:
            plain = Api(connection=self.connection)
            self.lease = Lease(plain, settings.lease_namespace, settings.lease_name, identity)
        self.api = Api(connection=self.connection, may_write=self.leads)
        self.cluster = Cluster(
            api=self.api,
            store=self.store,
            recorder=Recorder(self.api, identity),
            progress=ProgressReader(self.api, settings.progress_seconds, self.queue.put),
            warnings=Warnings(self.api, self.queue.put),
            settings=settings.lifecycle,
            read_logs=settings.read_logs,
            tracing=tracing(settings.otlp_endpoint),
        )
        self.resync = Resync(
            self.api, self.store, self.namespaces, settings.resync_seconds, changed=self.changed, gone=self.gone
        )
        self.pools = Pools(self.api, self.store, self.cluster.pools)
        self.policies = Policies(self.api, self.store)
        self.asking = Asking(self.store, self.queue, self.cluster)

    def leads(self) -> bool:
        """We may write: nobody else does."""
        return self.lease is None or self.lease.held

    def name_of(self, uid: str) -> str:
        """Return namespace and name of a job, for the log; its uid where it is gone."""
        stored = self.store.get(uid)
        return stored.family if stored is not None else uid

    # What happens in the cluster --------------------------------------------------------------------------------

    def heard(self, kind: Kind, event: str | None, raw: dict[str, Any]) -> None:
        """Take in what a watch says. An object listed again means that the watch began anew: compare soon."""
        self.resync.heard(kind)
        if not self.namespaces.serves(raw["metadata"].get("namespace", "")):
            return  # taken in as a whole once the namespace is served again
        uid = raw["metadata"]["uid"]
        if event == "DELETED":
            if kind == "Pod" and "deletionTimestamp" not in raw["metadata"]:
                self._asked.add(asyncio.create_task(self._gone_unless_kept(raw), name="a Pod that left its watch"))
                return
            self.store.put(kind, raw)  # its last state, which may be news
            self.gone(uid)
            return
        if event is None and uid in self._watched:
            self.resync.soon()
        self._watched.add(uid)
        if self.store.put(kind, raw) and (stored := self.store.get(uid)) is not None:
            self.changed(stored)

    async def _gone_unless_kept(self, raw: dict[str, Any]) -> None:
        """Forget a Pod that left its watch without having been told to end, unless only its label was taken away."""
        try:
            kept = await self.cluster.keeps(raw)
        except FinetuneError as error:
            log.debug("Pod could not be looked for", extra={"pod": raw["metadata"]["name"], "error": str(error)})
            kept = False
        if not kept:
            self.store.put("Pod", raw)
            self.gone(raw["metadata"]["uid"])
        self._asked.discard(asyncio.current_task())

    def changed(self, stored: Stored) -> None:
        """Ask for the passes that a new or changed object calls for."""
        if stored.kind == "FineTuneJob":
            self.policies.changed()
            self.queue.put(stored.uid)
        elif stored.kind == "GPUPool":
            self.pools.changed()
            self.asking.unplanned(stored)
        elif stored.kind in QUOTA_KINDS:
            self.asking.unplanned(stored)
        elif stored.kind == "FineTunePolicy":
            self.policies.changed()
            self.asking.unplanned(stored)
        else:
            self.asking.family(stored)
            self.pools.changed()

    def gone(self, uid: str) -> None:
        """Forget a deleted object and ask for the pass that its owner needs."""
        self._watched.discard(uid)
        stored = self.store.get(uid)
        self.store.drop(uid)
        self.asking.forget(uid)
        self.queue.forget(uid)
        self.cluster.forget(uid)  # also of a job that our own delete has taken out of the store before
        if stored is None:
            return
        self.policies.changed()
        if stored.kind in (*QUOTA_KINDS, "FineTunePolicy"):
            self.asking.waiting(stored.namespace)
            return
        if stored.kind != "FineTuneJob":
            self.asking.family(stored, gone=True)
        self.pools.changed()

    # From start to end -------------------------------------------------------------------------------------------

    async def run(self) -> int:
        """Start everything, wait, end everything."""
        await require_crds(self.api)
        server = await self._serve()
        stop_kopf = asyncio.Event()
        watches = Watches(
            self.settings,
            self.connection,
            self.heard,
            self._refused,
            self.namespaces,
            self.resync.probe,
            self._catch_signals,
        )
        self._catch_signals()
        kopf = self._spawn("watches", watches.run(stop_kopf))
        self._spawn("lead", self._lead())
        stop = asyncio.create_task(self._stop.wait(), name="stop")
        await asyncio.wait([*self._tasks, stop], return_when=asyncio.FIRST_COMPLETED)
        failed = self._report_failures()
        asyncio.get_running_loop().call_later(STOP_SECONDS, os._exit, 1)
        stop.cancel()
        await self._end(stop_kopf, kopf, server)
        return int(failed)

    async def _end(self, stop_kopf: asyncio.Event, kopf: "asyncio.Task[Any]", server: http.AppRunner | None) -> None:
        finished = await self.queue.close(PASSES_SECONDS)
        if self.lease is not None:
            await self.lease.release()
        stop_kopf.set()
        await asyncio.wait([kopf], timeout=1.0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if server is not None:
            await server.cleanup()
        await asyncio.to_thread(self.cluster.tracing.close)
        log.info("stopped", extra={"passes_finished": finished})

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> "asyncio.Task[Any]":
        task = asyncio.create_task(work, name=name)
        self._tasks.append(task)
        return task

    def _catch_signals(self) -> None:
        """Replace kopf's own signal handling: passes in progress end first, then the watches."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    def _report_failures(self) -> bool:
        """Log why a part ended that should never end; tell whether one did."""
        if self._stop.is_set():
            return False
        for task in self._tasks:
            if task.done():
                error = None if task.cancelled() else task.exception()
                log.error(
                    "a component of the operator stopped",
                    extra={"part": task.get_name(), "error": repr(error)},
                )
        return True

    async def _lead(self) -> None:
        """Wait for the lease with warm watches, compare once, then work for ever."""
        if self.lease is not None:
            await self.lease.acquire()
        async with asyncio.TaskGroup() as group:  # none of them may fail alone
            if self.lease is not None:
                group.create_task(self.lease.keep(lost=self._lost), name="lease")
            await answered(self.resync.once)
            for job in self.store.of_kind("FineTuneJob"):
                self.queue.put(job.uid)
            self.synced = True
            settle_memory()
            log.info("ready", extra={"jobs": len(self.store.of_kind("FineTuneJob"))})
            group.create_task(self.queue.run(Reconciler(self.cluster).work, self.settings.workers), name="queue")
            group.create_task(self.resync.run(), name="resync")
            group.create_task(self.resync.retry(), name="namespaces")
            if not self.settings.namespaces:
                group.create_task(self.pools.run(), name="pools")
            group.create_task(self.policies.run(), name="policies")
            group.create_task(keep_counting(self.store, self.cluster.api.clock), name="gauges")

    def _lost(self) -> NoReturn:
        """End at once: another operator may be writing in five seconds."""
        log.error("leadership lost: the API server could not be reached in time; exiting")
        os._exit(1)

    def _refused(self) -> NoReturn:
        """End at once: the credentials that we were given are refused, and the next process may get better ones."""
        log.error("the API server rejects the operator's credentials (401); exiting")
        os._exit(1)

    async def _serve(self) -> http.AppRunner | None:
        if not self.settings.http_port:
            return None
        return await web.serve(
            web.Checks(alive=self._alive, ready=self._ready), self.settings.http_host, self.settings.http_port
        )

    def _alive(self) -> str:
        if silent := self.resync.silent(self.settings.watch_silence_seconds):
            return f"the watch of {', '.join(silent)} missed changes and is silent"
        return "full comparisons with the API server keep failing" if self.resync.stale() else ""

    def _ready(self) -> str:
        return "" if self.synced or self.lease is not None else "the first comparison is not finished"
