"""`finetune logs`: what replica 0 of the newest attempt printed, without the progress lines."""

from typing import Annotated

import typer
from finetune_contract import parse_progress

from finetune_operator.cli.jobs import Context, JobNotFound, Jobs, Kubeconfig, Name, Namespace, with_jobs
from finetune_operator.controller.seen import seen_pod
from finetune_operator.controller.store import collection
from finetune_operator.lifecycle.observation import SeenPod
from finetune_operator.manifests.names import JOB_UID_LABEL


def chosen(pods: tuple[SeenPod, ...], *, preflight: bool, replica: int) -> SeenPod | None:
    """Return the newest preflight Pod, or the replica of the newest attempt."""
    if preflight:
        return max((pod for pod in pods if pod.role == "preflight"), key=lambda pod: pod.generation, default=None)
    trainers = (pod for pod in pods if pod.role == "trainer" and pod.replica == replica)
    return max(trainers, key=lambda pod: pod.attempt, default=None)


def shown(text: str, *, progress: bool) -> str:
    """Return the log, without progress lines unless they are wanted."""
    return "\n".join(each for each in text.splitlines() if progress or parse_progress(each) is None)


def command(  # noqa: PLR0913  # one parameter per option is how typer works
    name: Name,
    *,
    preflight: Annotated[bool, typer.Option("--preflight", help="Of the preflight Pod instead.")] = False,
    replica: Annotated[int, typer.Option(min=0, help="Replica of the trainer.")] = 0,
    progress: Annotated[bool, typer.Option("--progress", help="Show the progress lines too.")] = False,
    tail: Annotated[int, typer.Option(min=0, help="Only so many lines from the end; 0: all.")] = 0,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Print the log of a job's trainer."""

    async def read(jobs: Jobs) -> str:
        job = await jobs.get(name)
        items, _ = await jobs.api.list(collection("Pod", jobs.namespace), f"{JOB_UID_LABEL}={job.metadata.uid}")
        pod = chosen(tuple(map(seen_pod, items)), preflight=preflight, replica=replica)
        if pod is None:
            wanted = "preflight Pod" if preflight else f"trainer Pod of replica {replica}"
            raise JobNotFound(f"{name} has no {wanted} now (phase {job.status.phase})")
        query = {"tailLines": str(tail)} if tail else {}
        answer = await jobs.api.get(f"{collection('Pod', jobs.namespace)}/{pod.name}/log", query)
        answer.expect(200)
        return shown(answer.text, progress=progress)

    if text := with_jobs((kubeconfig, context, namespace), read):
        print(text)
