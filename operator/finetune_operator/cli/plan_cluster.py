"""What a cluster knows that a plan needs: GPUPools, quotas and policy of the namespace, and the job's preflight. Called by plan."""

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from finetune_operator.api.group import POLICY_KIND, POOL_KIND
from finetune_operator.api.policies import POLICY_NAME, FineTunePolicy
from finetune_operator.api.pools import GPUPool
from finetune_operator.cli.manifest_file import JobManifest
from finetune_operator.cli.plan_facts import ClusterFacts, pinned_preflight
from finetune_operator.cli.target import Target
from finetune_operator.errors import FinetuneError

if TYPE_CHECKING:
    from finetune_operator.cli.jobs import Jobs

PATIENCE_SECONDS = 3.0
"""A plan needs no cluster: one that does not answer must not hold it up."""


def read_cluster(
    target: Target, context: str, namespace: str, job: JobManifest | None, *, has_pools: bool = False
) -> ClusterFacts:
    """Return what is there, in a namespace or, for none, that of the kubeconfig. GPUPools are read unless the plan has some.

    A cluster that cannot be read leaves a remark, for a plan does without.
    """
    try:
        return asyncio.run(_read(target, context, namespace, job, has_pools=has_pools))
    except TimeoutError:
        why = f"it has not answered within {PATIENCE_SECONDS:g} s"
    except FinetuneError as error:
        why = str(error)
    does = "" if has_pools else "uses the built-in pools"
    lacks = "knows no quotas and no policy of the namespace" if job is not None else ""
    return ClusterFacts(
        remark=f"{target.title} cannot be read, so the plan {' and '.join(filter(None, (does, lacks)))}: {why}"
    )


async def _read(
    target: Target, context: str, namespace: str, job: JobManifest | None, *, has_pools: bool
) -> ClusterFacts:
    # loaded before the clock runs, for a busy machine takes long over them
    from finetune_operator.cli.jobs import JobNotFound, NoCRD, jobs_of  # noqa: PLC0415
    from finetune_operator.cli.plans import PlanUnread, whole  # noqa: PLC0415
    from finetune_operator.controller import limits  # noqa: F401, PLC0415

    async with asyncio.timeout(PATIENCE_SECONDS), jobs_of(target, context, namespace) as jobs:
        pools = ClusterFacts() if has_pools else await _pools(jobs)
        if job is None:
            return pools
        known = replace(pools, **await _namespace(jobs, job))
        try:
            stored = await whole(jobs, job.name)
        except (JobNotFound, NoCRD, PlanUnread):
            return known
        status, here = stored.status, replace(job, namespace=jobs.namespace)
        return replace(known, preflight=pinned_preflight(here, status.spec_digest, status.preflight))


async def _pools(jobs: "Jobs") -> ClusterFacts:
    from finetune_operator.controller.stored import collection  # noqa: PLC0415  # help needs no client

    answer, title = await jobs.api.get(collection(POOL_KIND)), jobs.target.title
    if answer.status == 404:
        return ClusterFacts(remark=f"{title} does not have the CRD GPUPool, so the plan uses the built-in pools")
    return ClusterFacts(title=title, pools=tuple(GPUPool.model_validate(item) for item in answer.expect(200)["items"]))


async def _namespace(jobs: "Jobs", job: JobManifest) -> dict[str, Any]:
    """Return quotas and policy of the job's namespace, as far as they may be read."""
    from finetune_operator.controller.limits import namespace_limits  # noqa: PLC0415
    from finetune_operator.controller.stored import QUOTA_KINDS, collection  # noqa: PLC0415

    objects: list[dict[str, Any]] = []
    unread: list[str] = []
    for kind in QUOTA_KINDS:
        answer = await jobs.api.get(collection(kind, jobs.namespace))
        unread += [kind] if answer.status != 200 else []
        objects += [{"kind": kind, **each} for each in answer.body.get("items", ())]
    answer = await jobs.api.get(f"{collection(POLICY_KIND, jobs.namespace)}/{POLICY_NAME}")
    policy = FineTunePolicy.model_validate(answer.body) if answer.status == 200 else None
    unread += [POLICY_KIND] if answer.status not in (200, 404) else []
    limits = namespace_limits(objects, job.spec.priority_class_name or "")
    return {"limits": limits, "policy": policy, "namespace": jobs.namespace, "unread": tuple(unread)}
