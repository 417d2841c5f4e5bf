"""How the commands about jobs reach the cluster: options, one read, and the wording of what is not there."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import typer

from finetune_operator.api.group import JOB_KIND
from finetune_operator.api.job_rules import NAME_PATTERN
from finetune_operator.api.status import FineTuneJob
from finetune_operator.controller.api import Api
from finetune_operator.controller.connection import connect, default_namespace
from finetune_operator.controller.stored import collection
from finetune_operator.errors import ClusterUnavailable, FinetuneError

T = TypeVar("T")

Name = Annotated[str, typer.Argument(help="Name of the FineTuneJob.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace. Default: the one in the kubeconfig.")]
Kubeconfig = Annotated[str, typer.Option(help="Kubeconfig file. Default: $KUBECONFIG or ~/.kube/config.")]
Context = Annotated[str, typer.Option(help="Context in the kubeconfig. Default: the current one.")]

POLL_SECONDS = 1.0
PATIENCE_SECONDS = 30.0
"""How long a command that follows a job bears an API server that does not answer."""


class JobNotFound(FinetuneError):
    """The job does not exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """The FineTuneJobs of one namespace."""

    api: Api
    namespace: str

    async def get(self, name: str) -> FineTuneJob:
        """Return a job. Raises JobNotFound."""
        if not re.search(NAME_PATTERN, name):
            raise JobNotFound(f"{name!r} is not a valid FineTuneJob name")
        answer = await self.api.get(f"{collection(JOB_KIND, self.namespace)}/{name}")
        if answer.status == 404:
            raise JobNotFound(f"FineTuneJob {name} not found in namespace {self.namespace}")
        return FineTuneJob.model_validate(answer.expect(200))

    async def list(self, *, everywhere: bool = False) -> tuple[FineTuneJob, ...]:
        """Return all jobs of the namespace, or of all namespaces, by key."""
        items, _ = await self.api.list(collection(JOB_KIND, "" if everywhere else self.namespace))
        return tuple(sorted((FineTuneJob.model_validate(raw) for raw in items), key=lambda job: job.key))

    async def follow(self, name: str) -> AsyncIterator[FineTuneJob]:
        """Yield the job each time it has changed, for ever. Raises JobNotFound once it is gone."""
        loop, seen = asyncio.get_running_loop(), ""
        failing_since: float | None = None
        while True:
            try:
                job = await self.get(name)
                failing_since = None
                if job.metadata.resource_version != seen:
                    seen = job.metadata.resource_version
                    yield job
            except ClusterUnavailable:
                failing_since = failing_since or loop.time()
                if loop.time() - failing_since > PATIENCE_SECONDS:
                    raise
            await asyncio.sleep(POLL_SECONDS)


@asynccontextmanager
async def jobs_of(kubeconfig: str, context: str, namespace: str) -> AsyncIterator[Jobs]:
    """Open the jobs of a namespace; empty: the kubeconfig's."""
    connection = await connect(kubeconfig, context)
    try:
        name = namespace or default_namespace(connection.kubeconfig, context)
        yield Jobs(api=Api(connection=connection), namespace=name)
    finally:
        await connection.client.close()


def with_jobs(options: tuple[str, str, str], work: Callable[[Jobs], Awaitable[T]]) -> T:
    """Run `work` on the jobs that (kubeconfig, context, namespace) name; Ctrl-C ends it without a traceback."""

    async def run() -> T:
        async with jobs_of(*options) as jobs:
            return await work(jobs)

    coroutine: Coroutine[Any, Any, T] = run()
    try:
        return asyncio.run(coroutine)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
