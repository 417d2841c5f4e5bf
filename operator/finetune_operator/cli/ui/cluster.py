"""The jobs that the page shows, read with the credentials of the kubeconfig or of the caller, and never written. Called by server."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from finetune_operator.api.status import ReportedJob
from finetune_operator.cli.curves import curves_in_logs, curves_of
from finetune_operator.cli.job_text import COLUMNS, row
from finetune_operator.cli.jobs import jobs_of
from finetune_operator.cli.plans import whole
from finetune_operator.cli.report_page import Report, report_page
from finetune_operator.cli.stored import sorted_out
from finetune_operator.cli.target import Target
from finetune_operator.cli.top import in_words
from finetune_operator.cli.usage import by_group, month_begin
from finetune_operator.errors import Unauthorized

ONLY_LOGS = "this page reads the logs of Pods that are still there; `finetune report` also reads the history beside the checkpoints"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Where the jobs are."""

    target: Target
    context: str = ""
    asks_callers: bool = False
    """Whether each caller must show a token of their own. Then nothing is read without one, and nothing but the API server is asked."""
    token: str = ""

    def seen_by(self, token: str) -> "Cluster":
        """Return the cluster as a caller may see it. Raises Unauthorized where a token is needed and missing."""
        if not self.asks_callers:
            return self
        if not token:
            raise Unauthorized("sign in with a bearer token of this cluster to see jobs")
        return replace(self, token=token)

    async def jobs(self, namespace: str = "") -> dict[str, Any]:
        """Return the jobs of a namespace or of all, newest first, and what each uses. Raises FinetuneError with the server's words."""
        async with jobs_of(self.target, self.context, namespace, token=self.token) as jobs:
            found, left_out = sorted_out(await jobs.list_raw(everywhere=not namespace))
        now = datetime.now(UTC)
        use = by_group(found, "namespace", month_begin(now), now)
        newest = sorted(found, key=lambda job: job.metadata.creation_timestamp, reverse=True)
        return {
            "cluster": self.target.title,
            "jobs": [entry(job, now) for job in newest],
            "leftOut": left_out,
            "use": [{"namespace": name, **in_words(each)} for name, each in use.items()],
        }

    async def report(self, namespace: str, name: str) -> str:
        """Return the report of a job as of now. Raises JobNotFound."""
        async with jobs_of(self.target, self.context, namespace, token=self.token) as jobs:
            job = await whole(jobs, name)
            # a caller could name any address or file as a store
            curves = await (curves_in_logs(jobs, job, ONLY_LOGS) if self.asks_callers else curves_of(jobs, job, ""))
            return report_page(Report(job=job, curves=curves, written=datetime.now(UTC)))


def entry(job: ReportedJob, now: datetime) -> dict[str, str]:
    """Return the columns of `finetune get`, and the namespace."""
    columns = zip(COLUMNS, row(job, now), strict=True)
    return {"namespace": job.metadata.namespace, **{title.lower(): value for title, value in columns}}
