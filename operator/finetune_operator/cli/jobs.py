"""How the commands about jobs reach the cluster: options, one read, and the wording of what is not there."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeVar

import typer

from finetune_operator.api.group import API_VERSION, JOB_KIND
from finetune_operator.api.job_rules import NAME_PATTERN
from finetune_operator.api.status import ReportedJob
from finetune_operator.cli.kube_link import open_link
from finetune_operator.cli.stored import readable, stored_job
from finetune_operator.cli.target import Target, require_target
from finetune_operator.controller.api import MERGE_PATCH, PAGE_ITEMS, Answer, Api
from finetune_operator.controller.stored import collection
from finetune_operator.errors import ClusterUnavailable, Conflict, FinetuneError, Unauthorized

T = TypeVar("T")

POLL_SECONDS = 1.0
PATIENCE_SECONDS = 30.0
"""How long a command that follows a job bears an API server that does not answer any more; one that never did is told at once."""


INSTALL = "install the operator (docs/install.md), or start a local cluster with `finetune local up --operator`"
Raw = dict[str, Any]


class Patience:
    """Bears an API server that has answered and does not any more, for a while; each `with` is one try."""

    def __init__(self) -> None:
        self._answered = False
        self._failing_since: float | None = None

    def heard(self) -> None:
        """Note that the API server answers."""
        self._answered, self._failing_since = True, None

    def __enter__(self) -> None:
        """Begin a try."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        """End a try; tell whether its failure is borne."""
        if kind is None:
            self.heard()
            return False
        now = asyncio.get_running_loop().time()
        self._failing_since = self._failing_since or now
        return issubclass(kind, ClusterUnavailable) and self._answered and now - self._failing_since <= PATIENCE_SECONDS


class JobNotFound(FinetuneError):
    """The job does not exist."""


class NoCRD(FinetuneError):
    """The cluster does not know FineTuneJobs."""


class JobExists(FinetuneError):
    """A job of this name exists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """The FineTuneJobs of one namespace."""

    api: Api
    namespace: str
    target: Target
    chosen_namespace: bool = False
    """Whether -n named it: then the commands that are suggested need it, too."""

    async def get(self, name: str) -> ReportedJob:
        """Return a job without what is in its FineTunePlan (plans.whole has it). Raises JobNotFound."""
        return stored_job(await self.raw(name))

    async def raw(self, name: str) -> Raw:
        """Return a job as the API server has it. Raises JobNotFound."""
        if not re.search(NAME_PATTERN, name):
            raise JobNotFound(f"{name!r} is not a valid FineTuneJob name")
        answer = await self.api.get(f"{collection(JOB_KIND, self.namespace)}/{name}")
        if answer.status == 404:
            await self._require_crd(answer)
            raise JobNotFound(f"FineTuneJob {name} not found in namespace {self.namespace}{await self._near(name)}")
        return answer.expect(200)

    async def _near(self, name: str) -> str:
        """Return a question about the job that may be meant; empty where there is none, or where jobs may not be listed."""
        answer = await self.api.get(collection(JOB_KIND, self.namespace), {"limit": str(PAGE_ITEMS)})
        names = [each["metadata"]["name"] for each in answer.body.get("items", ())]
        near = get_close_matches(name, names, n=1) or [each for each in names if each.startswith(name)][:1]
        return f": did you mean {near[0]}?" if near else ""

    async def list(self, *, everywhere: bool = False) -> tuple[ReportedJob, ...]:
        """Return all jobs of the namespace, or of all namespaces, by key."""
        raw = await self.list_raw(everywhere=everywhere)
        return tuple(sorted(readable(raw), key=lambda job: job.key))

    async def list_raw(self, *, everywhere: bool = False) -> tuple[Raw, ...]:
        """Return all jobs as the API server has them."""
        path = collection(JOB_KIND, "" if everywhere else self.namespace)
        try:
            items, _ = await self.api.list(path)
        except Conflict:
            await self._require_crd(await self.api.get(path, {"limit": "1"}))
            raise
        return tuple({"apiVersion": API_VERSION, "kind": JOB_KIND, **each} for each in items)

    async def create(self, document: Mapping[str, Any]) -> ReportedJob:
        """Create a job. Raises JobExists, or FinetuneError with the server's words."""
        answer = await self.api.request(
            "POST", f"{collection(JOB_KIND, self.namespace)}?fieldValidation=Strict", body=document
        )
        if answer.status == 404:
            await self._require_crd(answer)
            raise JobNotFound(f"namespace {self.namespace} does not exist: create it, or choose another with -n")
        if answer.status == 409:
            raise JobExists(f"FineTuneJob {document['metadata']['name']} exists in namespace {self.namespace}")
        return stored_job(answer.expect())

    async def patch(self, name: str, spec: Mapping[str, Any]) -> ReportedJob:
        """Merge a change into the spec of a job. Raises JobNotFound, or FinetuneError with the server's words."""
        path = f"{collection(JOB_KIND, self.namespace)}/{name}"
        answer = await self.api.request("PATCH", path, body={"spec": spec}, content_type=MERGE_PATCH)
        if answer.status == 404:
            raise JobNotFound(f"FineTuneJob {name} not found in namespace {self.namespace}")
        return stored_job(answer.expect())

    async def delete(self, name: str, uid: str) -> None:
        """Delete this very job. Raises JobNotFound."""
        path = f"{collection(JOB_KIND, self.namespace)}/{name}"
        answer = await self.api.request("DELETE", path, body={"preconditions": {"uid": uid}})
        if answer.status == 404:
            raise JobNotFound(f"FineTuneJob {name} not found in namespace {self.namespace}")
        answer.check()

    async def _require_crd(self, answer: Answer) -> None:
        """Raise FinetuneError where the API server does not know FineTuneJobs at all: its 404 has no kind."""
        if answer.status == 404 and not (answer.body.get("details") or {}).get("kind"):
            raise NoCRD(f"{self.target.title} does not have the CRD FineTuneJob: {INSTALL}")

    async def follow(self, name: str) -> AsyncIterator[ReportedJob]:
        """Yield the job each time it has changed, for ever. Raises JobNotFound once it is gone."""
        seen, patience = "", Patience()
        while True:
            with patience:
                job = await self.get(name)
                if job.metadata.resource_version != seen:
                    seen = job.metadata.resource_version
                    yield job
            await asyncio.sleep(POLL_SECONDS)


@asynccontextmanager
async def jobs_of(target: Target, context: str, namespace: str, *, token: str = "") -> AsyncIterator[Jobs]:
    """Open the jobs of a namespace; empty: the kubeconfig's. A token replaces who the kubeconfig says that we are."""
    link, usual = await open_link(target.kubeconfig, context, token=token)
    try:
        yield Jobs(
            api=Api(connection=link), namespace=namespace or usual, target=target, chosen_namespace=bool(namespace)
        )
    finally:
        await link.close()


def continues(name: str) -> str:
    """Say that Ctrl-C ended a command, and not the job."""
    return f"job {name} continues. `finetune suspend {name}` saves a checkpoint and releases its GPUs"


def with_jobs(options: tuple[str, str, str], work: Callable[[Jobs], Awaitable[T]], *, interrupted: str = "") -> T:
    """Run `work` on the jobs that (kubeconfig, context, namespace) name; Ctrl-C ends it without a traceback.

    `interrupted` is said on stderr after Ctrl-C. The local cluster is named on stderr where no kubeconfig leads to it.
    """
    kubeconfig, context, namespace = options
    target = require_target(kubeconfig)
    if target.local and not kubeconfig and "KUBECONFIG" not in os.environ:
        print(f"finetune: no kubeconfig found, using {target.title}", file=sys.stderr)

    async def run() -> T:
        async with jobs_of(target, context, namespace) as jobs:
            return await work(jobs)

    coroutine: Coroutine[Any, Any, T] = run()
    try:
        return asyncio.run(coroutine)
    except Unauthorized as error:
        raise FinetuneError(
            f"{target.title} does not accept your credentials ({error}): log in again, or choose others with --kubeconfig or --context"
        ) from error
    except KeyboardInterrupt:
        if interrupted:
            print(f"\nfinetune: {interrupted}", file=sys.stderr)
        raise typer.Exit(130) from None
