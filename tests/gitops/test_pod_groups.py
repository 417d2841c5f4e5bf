"""PodGroups of Volcano and the scheduler-plugins: taken by their real definitions, made for a gang, and gone with its first Pod."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.client import FINETUNE, Client, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.plays import a_job, a_pool
from tests.cluster.standin import StandIn
from tests.cluster.test_controller_runs import jobs, pods
from tests.gitops.programs import SCHEDULER_PLUGINS, module_folder, volcano_definition
from tests.gitops.test_kueue import said
from tests.golden.manifests import gang
from tests.servers.control_plane import ControlPlane

pytestmark = pytest.mark.gitops

each_scheduler = pytest.mark.parametrize("scheduler", ["volcano", "scheduler-plugins"])


@pytest.fixture(scope="module")
def definitions(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The definitions of both schedulers."""
    files = (
        volcano_definition(tmp_path_factory.mktemp("volcano")),
        module_folder(SCHEDULER_PLUGINS) / "config/crd/bases/scheduling.x-k8s.io_podgroups.yaml",
    )
    for file in files:
        control_plane.kubectl("apply", "--server-side", "-f", str(file))
        control_plane.kubectl("wait", "--for=condition=Established", "-f", str(file), "--timeout=30s")
    yield
    for file in files:
        control_plane.kubectl("delete", "-f", str(file))


def gang_on(api: Client, namespace: str, scheduler: str) -> str:
    """Create a pool whose gangs another scheduler places, and a job on two of its nodes; return the job's name."""
    pool = a_pool()
    pool["metadata"]["name"] = f"gang-{namespace}"
    pool["spec"] |= {"pod": {"podGroup": scheduler, "schedulerName": scheduler}, "maxNodes": 2}
    api.create(f"{FINETUNE}/gpupools", pool)
    gpus = 2 * pool["spec"]["gpusPerNode"]
    resources = {"pools": [pool["metadata"]["name"]], "gpus": gpus}
    api.create(jobs(namespace), a_job("wide", resources=resources, training={"globalBatchSize": gpus * 4}))
    return "wide"


def test_a_scheduler_that_is_not_there_is_said(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator, tmp_path: Path
):
    """No gate is lifted, and the message says what is missing. It comes first: the others install the definitions."""
    start_operator().start()
    name = gang_on(api, namespace, "volcano")
    words = (
        "the cluster has no PodGroups of scheduling.volcano.sh/v1beta1: install the scheduler that the GPUPool names in "
        "spec.pod.podGroup, or remove podGroup there and delete and re-apply the job"
    )
    eventually(lambda: said(api, namespace, name)[2] == words, "it is said", 60)
    gates = [api.get(f"{pods(namespace)}/wide-0-{number}")["spec"].get("schedulingGates") for number in (0, 1)]
    api.delete(f"{FINETUNE}/gpupools/gang-{namespace}")

    assert gates == [[{"name": "finetune.dev/gang"}]] * 2


@each_scheduler
def test_the_manifests_are_as_their_definitions_say(
    scheduler: str, control_plane: ControlPlane, definitions: None, namespace: str
):
    """Every field, validated strictly."""
    group, pod = gang(scheduler)
    for each in (group, pod):
        each["metadata"]["namespace"] = namespace
    answer = control_plane.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", given=group)

    assert answer.stdout.endswith("bot-0 created (server dry run)\n")
    assert answer.stderr == ""


@each_scheduler
def test_a_gang_gets_its_pod_group(
    scheduler: str, api: Client, control_plane: ControlPlane, standin: StandIn, namespace: str, definitions: None,
    start_operator: StartOperator,
):  # fmt: skip
    """Before the Pods can be scheduled; when the first of them goes, so does the PodGroup."""
    start_operator().start()
    gang_on(api, namespace, scheduler)
    version = gang(scheduler)[0]["apiVersion"]
    path = f"/apis/{version}/namespaces/{namespace}/podgroups/wide-0"
    group = eventually(lambda: api.find(path), "the PodGroup exists", 60)
    eventually(
        lambda: all("schedulingGates" not in api.get(f"{pods(namespace)}/wide-0-{n}")["spec"] for n in (0, 1)),
        "the gates are lifted",
    )
    api.patch(f"{jobs(namespace)}/wide", {"spec": {"suspend": True}})
    eventually(lambda: api.find(path) is None, "the PodGroup is gone with its Pods", 90)
    api.delete(f"{FINETUNE}/gpupools/gang-{namespace}")

    assert group["spec"]["minMember"] == 2
