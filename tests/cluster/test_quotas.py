"""ResourceQuotas and LimitRanges of a namespace, on the real API server that enforces them."""

import pytest

from tests.cluster.client import Client, Raw, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.plays import POOL, Play, a_job, training_fails
from tests.cluster.standin import StandIn
from tests.cluster.test_controller_rbac import kubeconfig_of
from tests.cluster.test_controller_runs import attempts, jobs, reaches
from tests.servers.control_plane import ControlPlane

pytestmark = pytest.mark.cluster

GPUS = "requests.nvidia.com/gpu"


def quotas(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/resourcequotas"


def a_quota(**hard: str) -> Raw:
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "team-a"}, "spec": {"hard": hard}}


def asking(gpus: int) -> Raw:
    """Return what a job that wants so many GPUs has in its spec."""
    return {"resources": {"pools": [POOL], "gpus": gpus}, "training": {"globalBatchSize": 32}}


def test_a_plan_fits_the_quota_and_follows_it(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator
):
    """Refused with the figure; planned and run when somebody raises the quota, by itself."""
    api.create(quotas(namespace), a_quota(**{GPUS: "4"}))
    start_operator().start()
    api.create(jobs(namespace), a_job("eight", **asking(8)))
    stalled = reaches(api, namespace, "eight", "Failed")["status"]["conditions"]
    refused = next(each for each in stalled if each["type"] == "Succeeded")
    api.patch(f"{quotas(namespace)}/team-a", {"spec": {"hard": {GPUS: "8"}}})
    job = reaches(api, namespace, "eight", "Succeeded")

    assert (refused["reason"], refused["message"].split(";")[0]) == (
        "DoesNotFit", "lora on 8 x A100-SXM4-80GB needs 8 GPUs (quota team-a allows 4)",
    )  # fmt: skip
    assert job["status"]["plan"]["quotas"] == ["8 of 8 GPUs of quota team-a"]


def test_a_quota_that_is_used_up_is_waited_for(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator
):
    """The job that holds the GPUs is named; the waiting one goes on when the quota is raised, without the pause."""
    api.create(quotas(namespace), a_quota(**{GPUS: "6"}))
    standin.scripts["holder"] = {"0": Play(hold=True)}
    start_operator().start()
    api.create(jobs(namespace), a_job("holder", **asking(4)))
    reaches(api, namespace, "holder", "Training")
    api.create(jobs(namespace), a_job("waiter", **asking(4)))

    def refusal() -> str:
        status = api.get(f"{jobs(namespace)}/waiter").get("status", {})
        said = [each for each in status.get("conditions", ()) if each["reason"] == "QuotaExceeded"]
        return said[0]["message"] if said else ""

    message = eventually(refusal, "the waiter is refused")
    api.patch(f"{quotas(namespace)}/team-a", {"spec": {"hard": {GPUS: "8"}}})
    reaches(api, namespace, "waiter", "Succeeded")

    assert message.endswith("; in use by job holder (4 GPUs)")


def test_a_job_does_not_wait_for_its_own_finished_pods(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator
):
    """count/pods counts those of preflight and of the first attempt: they make room for the second one."""
    api.create(quotas(namespace), a_quota(**{"count/pods": "2"}))
    standin.scripts["fills"] = {"0": training_fails("TrainerError", "boom", checkpoint_step=10)}
    start_operator().start()
    api.create(jobs(namespace), a_job("fills"))

    job = reaches(api, namespace, "fills", "Succeeded")

    assert attempts(job) == [(0, "TrainerError"), (1, "Succeeded")]
    left = [each["metadata"]["name"] for each in api.items(f"/api/v1/namespaces/{namespace}/pods")]
    assert left == ["fills-1-0"]


def test_a_limit_range_bounds_one_pod(api: Client, standin: StandIn, namespace: str, start_operator: StartOperator):
    """Two GPUs per Pod at most: the planner asks for no Pod that admission refuses."""
    most = {"type": "Container", "max": {"nvidia.com/gpu": "2"}, "default": {"nvidia.com/gpu": "0"}}
    limits = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "two"}, "spec": {"limits": [most]}}
    api.create(f"/api/v1/namespaces/{namespace}/limitranges", limits)
    start_operator().start()
    api.create(jobs(namespace), a_job("four", **asking(4)))
    api.create(jobs(namespace), a_job("two", **asking(2)))
    refused = reaches(api, namespace, "four", "Failed")["status"]["conditions"]
    reaches(api, namespace, "two", "Succeeded")

    assert next(each["message"] for each in refused if each["type"] == "Succeeded").startswith(
        "lora on 4 x A100-SXM4-80GB needs 4 GPUs per Pod (LimitRange two allows 2); would fit: "
    )


def test_an_operator_that_may_not_read_quotas_works_as_before(
    api: Client, control_plane: ControlPlane, standin: StandIn, namespace: str, start_operator: StartOperator, tmp_path
):
    """Rights without those on quotas: it says so once, plans without quotas, and waits where one refuses a Pod."""
    rules = [
        {"apiGroups": ["finetune.dev", "", "events.k8s.io"], "verbs": ["*"], "resources": [
            "finetunejobs", "finetunejobs/status", "finetunejobs/finalizers", "finetuneplans", "gpupools",
            "gpupools/status", "finetunepolicies",
            "finetunepolicies/status", "nodes", "pods",
            "pods/log", "services", "events",
        ]},
    ]  # fmt: skip
    rbac = "rbac.authorization.k8s.io"
    control_plane.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "old", "namespace": namespace}},
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": f"old-{namespace}"}, "rules": rules},
        {
            "apiVersion": f"{rbac}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": f"old-{namespace}"},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": f"old-{namespace}"},
            "subjects": [{"kind": "ServiceAccount", "name": "old", "namespace": namespace}],
        },
    )  # fmt: skip
    token = api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts/old/token", {"spec": {}})
    kubeconfig = kubeconfig_of(api, token["status"]["token"], tmp_path / "old.conf")
    api.create(quotas(namespace), a_quota(**{GPUS: "4"}))
    operator = start_operator(kubeconfig=kubeconfig)
    operator.start()
    api.create(jobs(namespace), a_job("two", **asking(2)))
    api.create(jobs(namespace), a_job("eight", **asking(8)))
    done = reaches(api, namespace, "two", "Succeeded")

    def waits() -> bool:
        status = api.get(f"{jobs(namespace)}/eight").get("status", {})
        return any(each["reason"] == "QuotaExceeded" for each in status.get("conditions", ()))

    eventually(waits, "the Pods of the larger job are refused")
    told = [line for line in operator.text.splitlines() if "quotas cannot be read" in line]

    assert "quotas" not in done["status"]["plan"] or done["status"]["plan"]["quotas"] == []
    assert len(told) == 2, told  # ResourceQuotas and LimitRanges
