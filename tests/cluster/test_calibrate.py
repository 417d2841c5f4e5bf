"""`finetune calibrate` reads a cluster's jobs; the API server keeps what the planner plans."""

import pytest
from finetune_operator.cli.calibrate import command

from tests.cluster.client import FINETUNE, Client
from tests.servers.control_plane import ControlPlane
from tests.unit.cli.test_calibrate import a_finished_job
from tests.unit.planning.planning_builders import a_laptop
from tests.unit.planning.test_planner import planned

pytestmark = pytest.mark.cluster


def with_status(api: Client, namespace: str, job: dict[str, object]) -> None:
    job = {**job, "metadata": {"name": job["metadata"]["name"], "namespace": namespace}}  # type: ignore[index]
    jobs = f"{FINETUNE}/namespaces/{namespace}/finetunejobs"
    api.create(jobs, {name: value for name, value in job.items() if name != "status"})
    api.patch(f"{jobs}/{job['metadata']['name']}/status", {"status": job["status"]})  # type: ignore[index]


def test_the_jobs_of_a_namespace_are_compared(
    api: Client, control_plane: ControlPlane, namespace: str, capsys: pytest.CaptureFixture[str]
):
    """With a kubeconfig instead of files."""
    with_status(api, namespace, a_finished_job("one", speed=0.5, memory=1.02))
    command(kubeconfig=str(control_plane.kubeconfig), namespace=namespace)
    lines = capsys.readouterr().out.splitlines()

    assert lines[1].split() == [f"{namespace}/one", "1.02", "0.50", "2.00", *["lora", "on", "1", "x", "H100-80GB-HBM3"]]
    assert lines[-2].startswith("speed: median 0.50 over 1 job,")


@pytest.mark.parametrize("training", [{"maxSteps": 30}, {"epochs": 2}])
def test_plan_and_resolved_spec_pass_the_schema(api: Client, namespace: str, training: dict[str, int]):
    """Whatever the planner fills in, the API server must keep, whole, in a FineTunePlan; and in a status of an earlier operator."""
    run = planned("135m", a_laptop(), training=training)
    job = a_finished_job("small", speed=1, memory=1)
    parts = {"plan": run.plan.model_dump(exclude_none=True), "resolved": run.resolved.model_dump(exclude_none=True)}
    with_status(api, namespace, {**job, "status": parts})
    head = {"apiVersion": job["apiVersion"], "kind": "FineTunePlan", "metadata": {"name": "small"}}
    plan = api.create(f"{FINETUNE}/namespaces/{namespace}/finetuneplans", head | parts)
    status = api.get(f"{FINETUNE}/namespaces/{namespace}/finetunejobs/small")["status"]

    assert [{name: kept[name] for name in parts} for kept in (plan, status)] == [parts, parts]
