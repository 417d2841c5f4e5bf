"""What a cluster knows that a plan needs: its GPUPools, and the preflight of the job if it is there. Called by plan."""

import asyncio

from finetune_operator.api.group import POOL_KIND
from finetune_operator.api.pools import GPUPool
from finetune_operator.cli.manifest_file import JobManifest
from finetune_operator.cli.plan_facts import ClusterFacts, pinned_preflight
from finetune_operator.cli.target import Target
from finetune_operator.errors import FinetuneError

PATIENCE_SECONDS = 3.0
"""A plan needs no cluster: one that does not answer must not hold it up."""


def read_cluster(target: Target, context: str, job: JobManifest | None) -> ClusterFacts:
    """Return pools and preflight. A cluster that cannot be read leaves a remark, for the built-in pools do as well."""
    try:
        return asyncio.run(_read(target, context, job))
    except TimeoutError:
        why = f"it has not answered within {PATIENCE_SECONDS:g} s"
    except FinetuneError as error:
        why = str(error)
    return ClusterFacts(remark=f"{target.title} cannot be read, so the plan uses the built-in pools: {why}")


async def _read(target: Target, context: str, job: JobManifest | None) -> ClusterFacts:
    from finetune_operator.cli.jobs import JobNotFound, jobs_of  # noqa: PLC0415  # a client takes a third of a second to load
    from finetune_operator.controller.stored import collection  # noqa: PLC0415

    async with asyncio.timeout(PATIENCE_SECONDS), jobs_of(target, context, job.namespace if job else "") as jobs:
        answer = await jobs.api.get(collection(POOL_KIND))
        if answer.status == 404:
            return ClusterFacts(
                remark=f"{target.title} does not have the CRD GPUPool, so the plan uses the built-in pools"
            )
        pools = tuple(GPUPool.model_validate(item) for item in answer.expect(200)["items"])
        if job is None:
            return ClusterFacts(title=target.title, pools=pools)
        try:
            stored = await jobs.get(job.name)
        except JobNotFound:
            return ClusterFacts(title=target.title, pools=pools)
        status = stored.status
        found = pinned_preflight(job, status.spec_digest, status.preflight)
        return ClusterFacts(title=target.title, pools=pools, preflight=found)
