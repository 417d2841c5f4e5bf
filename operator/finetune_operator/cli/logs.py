"""`finetune logs`: what replica 0 of the newest attempt printed, without the progress lines."""

from typing import Annotated

import typer
from finetune_contract import parse_progress

from finetune_operator.api.status import FineTuneJob
from finetune_operator.cli.jobs import Context, JobNotFound, Jobs, Kubeconfig, Name, Namespace, with_jobs
from finetune_operator.controller.seen import seen_pods
from finetune_operator.controller.stored import collection
from finetune_operator.lifecycle.observation import SeenPod
from finetune_operator.manifests.names import CONTAINERS, JOB_UID_LABEL


def chosen(pods: tuple[SeenPod, ...], *, preflight: bool, replica: int) -> SeenPod | None:
    """Return the newest preflight Pod, or the replica of the newest attempt."""
    if preflight:
        return max((pod for pod in pods if pod.role == "preflight"), key=lambda pod: pod.generation, default=None)
    trainers = (pod for pod in pods if pod.role == "trainer" and pod.replica == replica)
    return max(trainers, key=lambda pod: pod.attempt, default=None)


def nothing_to_show(job: FineTuneJob, pods: tuple[SeenPod, ...], *, preflight: bool, replica: int) -> str:
    """Say why there is no such log, and where to look instead."""
    where = f"{job.metadata.name} (phase {job.status.phase})"
    examined = not preflight and any(pod.role == "preflight" for pod in pods)
    instead = f": see `finetune logs {job.metadata.name} --preflight`" if examined else ""
    if preflight:
        return f"{where} has no preflight Pod"
    if not job.status.attempts:
        return f"{where} has not started a trainer{instead}"
    most = job.status.plan.replicas if job.status.plan else 1
    if replica >= most:
        return f"{where} has {most} replica{'s' if most > 1 else ''}, counted from 0, and no replica {replica}"
    return f"{where} has no Pod of replica {replica}: finished Pods are deleted after runPolicy.podRetentionSeconds"


def shown(text: str, *, progress: bool) -> str:
    """Return the log, without progress lines unless they are wanted."""
    return "\n".join(each for each in text.splitlines() if progress or parse_progress(each) is None)


def command(  # noqa: PLR0913  # one parameter per option is how typer works
    name: Name,
    *,
    preflight: Annotated[bool, typer.Option("--preflight", help="Print the log of the preflight Pod instead.")] = False,
    replica: Annotated[int, typer.Option(min=0, help="Replica whose log is printed.")] = 0,
    progress: Annotated[bool, typer.Option("--progress", help="Also print the progress reports.")] = False,
    tail: Annotated[int, typer.Option(min=0, help="Print only the last N lines. 0 means all.")] = 0,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Print the trainer log of a job's latest attempt."""

    async def read(jobs: Jobs) -> str:
        job = await jobs.get(name)
        items, _ = await jobs.api.list(collection("Pod", jobs.namespace), f"{JOB_UID_LABEL}={job.metadata.uid}")
        pods = seen_pods(items)
        pod = chosen(pods, preflight=preflight, replica=replica)
        if pod is None:
            raise JobNotFound(nothing_to_show(job, pods, preflight=preflight, replica=replica))
        query = {"container": CONTAINERS[pod.role]} | ({"tailLines": str(tail)} if tail else {})
        answer = await jobs.api.get(f"{collection('Pod', jobs.namespace)}/{pod.name}/log", query)
        answer.expect(200)
        return shown(answer.text, progress=progress)

    if text := with_jobs((kubeconfig, context, namespace), read):
        print(text)
