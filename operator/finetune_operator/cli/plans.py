"""The plan of a job, for the commands that need all of it; the lists make do with what status says. Called by the commands."""

from finetune_operator.api.group import PLAN_KIND
from finetune_operator.api.pinned import join, plan_name_of
from finetune_operator.api.plan import Plan
from finetune_operator.api.status import FineTuneJob, ReportedJob
from finetune_operator.cli.jobs import Jobs, Raw
from finetune_operator.cli.stored import whole_job
from finetune_operator.controller.stored import collection
from finetune_operator.errors import Conflict, FinetuneError, Forbidden


class PlanUnread(FinetuneError):
    """A job's FineTunePlan cannot be read."""


async def whole(jobs: Jobs, name: str) -> FineTuneJob:
    """Return a job with its plan. Raises JobNotFound, or PlanUnread."""
    return whole_job(await with_plan(jobs, await jobs.raw(name)))


async def with_plan(jobs: Jobs, job: Raw) -> Raw:
    """Return a job as the API server has it with its plan, preflight and resolved spec in its status. Raises PlanUnread."""
    name = plan_name_of(job)
    if not name:
        return job
    answer = await jobs.api.get(f"{collection(PLAN_KIND, jobs.namespace)}/{name}")
    whose = f"{PLAN_KIND} {name}, which has the plan of job {job['metadata']['name']}"
    if answer.status == 403:
        raise PlanUnread(f"you are not allowed to read {whose}: {answer.message}. The role view allows it")
    if answer.status == 404:
        raise PlanUnread(f"{whose}, does not exist: it was deleted, or the job runs in another cluster")
    return join(job, answer.expect(200))


async def plan_of(jobs: Jobs, job: ReportedJob) -> Plan | None:
    """Return the plan of a job; None where it has none, or it cannot be read."""
    try:
        return (await whole(jobs, job.metadata.name)).status.plan
    except PlanUnread:
        return None


async def list_plans(jobs: Jobs, *, everywhere: bool) -> tuple[Raw, ...]:
    """Return the FineTunePlans of the namespace, or of all namespaces; none where they may not be listed."""
    try:
        found, _ = await jobs.api.list(collection(PLAN_KIND, "" if everywhere else jobs.namespace))
    except (Conflict, Forbidden):
        return ()
    return tuple(found)
