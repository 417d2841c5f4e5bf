"""The jobs that the page shows, read with the credentials of the kubeconfig, and never written. Called by server."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from finetune_operator.api.status import FineTuneJob
from finetune_operator.cli.curves import curves_of
from finetune_operator.cli.job_text import COLUMNS, row
from finetune_operator.cli.jobs import jobs_of
from finetune_operator.cli.report_page import Report, report_page
from finetune_operator.cli.target import Target
from finetune_operator.cli.top import in_words
from finetune_operator.cli.usage import by_group, month_begin


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Where the jobs are."""

    target: Target
    context: str = ""

    async def jobs(self) -> dict[str, Any]:
        """Return all jobs, newest first, and what each namespace uses. Raises FinetuneError with the server's words."""
        async with jobs_of(self.target, self.context, "") as jobs:
            found = await jobs.list(everywhere=True)
        now = datetime.now(UTC)
        use = by_group(found, "namespace", month_begin(now), now)
        newest = sorted(found, key=lambda job: job.metadata.creation_timestamp, reverse=True)
        return {
            "cluster": self.target.title,
            "jobs": [entry(job, now) for job in newest],
            "use": [{"namespace": name, **in_words(each)} for name, each in use.items()],
        }

    async def report(self, namespace: str, name: str) -> str:
        """Return the report of a job as of now. Raises JobNotFound."""
        async with jobs_of(self.target, self.context, namespace) as jobs:
            job = await jobs.get(name)
            return report_page(Report(job=job, curves=await curves_of(jobs, job, ""), written=datetime.now(UTC)))


def entry(job: FineTuneJob, now: datetime) -> dict[str, str]:
    """Return the columns of `finetune get`, and the namespace."""
    columns = zip(COLUMNS, row(job, now), strict=True)
    return {"namespace": job.metadata.namespace, **{title.lower(): value for title, value in columns}}
