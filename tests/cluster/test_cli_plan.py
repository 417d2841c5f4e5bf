"""`finetune plan` with a cluster: pools, quotas and the policy of the job's namespace are read from the API server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.cluster.client import Client, Raw
from tests.cluster.plays import POOL, a_job
from tests.cluster.standin import StandIn
from tests.cluster.test_controller_rbac import kubeconfig_of
from tests.cluster.test_policies import a_policy, policies
from tests.cluster.test_quotas import GPUS, a_quota, asking, quotas
from tests.servers.control_plane import ControlPlane

pytestmark = pytest.mark.cluster


class Planned:
    """`finetune plan` of a job file in a namespace of the control plane."""

    def __init__(self, control_plane: ControlPlane, namespace: str, folder: Path) -> None:
        self.kubeconfig, self.namespace, self.folder = control_plane.kubeconfig, namespace, folder

    def __call__(self, job: Raw, *options: str) -> tuple[int, str, str]:
        """Return exit code, stdout and stderr; the namespace is called NS."""
        (self.folder / "job.yaml").write_text(yaml.safe_dump(job))
        environment = os.environ | {"KUBECONFIG": str(self.kubeconfig), "HOME": str(self.folder)}
        words = [sys.executable, "-m", "finetune_operator", "plan", "-f", "job.yaml", *options]
        done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=self.folder, check=False)
        said = [text.replace(self.namespace, "NS") for text in (done.stdout, done.stderr)]
        return done.returncode, said[0], said[1]

    def job(self, **spec: object) -> Raw:
        """Return a job in the namespace, of a model in the catalogue, on eight GPUs of the cluster's pool."""
        raw = a_job("one", **{"model": {"source": "hf://Qwen/Qwen2.5-7B"}, **asking(8), **spec})
        return {**raw, "metadata": {"name": "one", "namespace": self.namespace}}


@pytest.fixture
def plan(control_plane: ControlPlane, standin: StandIn, namespace: str, tmp_path: Path) -> Planned:
    """Plans on the pool of the stand-in's node."""
    return Planned(control_plane, namespace, tmp_path)


def test_the_pools_of_the_cluster_are_planned_on(plan: Planned):
    """And the page says whose they are."""
    code, page, said = plan(plan.job())

    assert (code, said) == (0, "")
    assert "lora on 8 x A100-SXM4-80GB" in page
    assert "pools of the local cluster tests" in page
    assert POOL in page


def test_the_quota_of_the_namespace_is_kept(api: Client, namespace: str, plan: Planned):
    """The refusal of the operator, before there is a job; where it fits, the page says how much of it the job takes."""
    api.create(quotas(namespace), a_quota(**{GPUS: "4"}))
    refused = plan(plan.job())
    api.patch(f"{quotas(namespace)}/team-a", {"spec": {"hard": {GPUS: "8"}}})
    code, page, _ = plan(plan.job())

    assert (refused[0], refused[1], refused[2].splitlines()[0]) == (
        1, "", "finetune: lora on 8 x A100-SXM4-80GB needs 8 GPUs (quota team-a allows 4)",
    )  # fmt: skip
    assert code == 0
    assert "8 of 8 GPUs of quota team-a" in page


def test_the_policy_of_the_namespace_is_kept(api: Client, namespace: str, plan: Planned):
    """In the words of the operator, with whom to ask; a destination that it allows is planned."""
    api.create(policies(namespace), a_policy(allow={"destinations": ["s3://team-a/"]}))
    refused = plan(plan.job())
    code, _, said = plan(plan.job(output={"destination": "s3://team-a/one"}))

    assert refused == (
        1,
        "",
        "finetune: spec.output.destination s3://bucket/one is not an allowed destination (allow.destinations: s3://team-a/): "
        "FineTunePolicy default of namespace NS, which #ml-platform can change\n",
    )
    assert (code, said) == (0, "")


@pytest.mark.parametrize("where", ["kubeconfig", "option"])
def test_a_job_without_a_namespace_is_planned_where_it_would_be_created(
    api: Client, namespace: str, plan: Planned, where: str
):
    """As `finetune submit` and kubectl choose the namespace: that of -n, else of the kubeconfig."""
    api.create(quotas(namespace), a_quota(**{GPUS: "4"}))
    job = plan.job() | {"metadata": {"name": "one"}}
    if where == "kubeconfig":
        conf = yaml.safe_load(plan.kubeconfig.read_text())
        for each in conf["contexts"]:
            each["context"]["namespace"] = namespace
        plan.kubeconfig = plan.folder / "mine.conf"
        plan.kubeconfig.write_text(yaml.safe_dump(conf))
    code, _, said = plan(job, *(["-n", namespace] if where == "option" else []))

    assert (code, said.splitlines()[0]) == (
        1, "finetune: lora on 8 x A100-SXM4-80GB needs 8 GPUs (quota team-a allows 4)",
    )  # fmt: skip


def test_limits_that_may_not_be_read_are_named(api: Client, control_plane: ControlPlane, namespace: str, plan: Planned):
    """A user with rights on jobs and pools only gets a plan, and learns that it may be refused; files take their place."""
    api.create(quotas(namespace), a_quota(**{GPUS: "4"}))
    control_plane.kubectl("create", "serviceaccount", "reader", "-n", namespace)
    resources = "--resource=finetunejobs.finetune.dev,gpupools.finetune.dev"
    control_plane.kubectl("create", "clusterrole", f"{namespace}-reader", "--verb=get,list", resources)
    control_plane.kubectl(
        "create", "clusterrolebinding", f"{namespace}-reader", f"--clusterrole={namespace}-reader",
        f"--serviceaccount={namespace}:reader",
    )  # fmt: skip
    token = control_plane.kubectl("create", "token", "reader", "-n", namespace).stdout.strip()
    plan.kubeconfig = kubeconfig_of(api, token, plan.folder / "reader.conf")
    code, _, said = plan(plan.job())
    (plan.folder / "quota.yaml").write_text(yaml.safe_dump(a_quota(**{GPUS: "8"})))
    named = plan(plan.job(), "--quota", "quota.yaml")

    assert (code, said) == (
        0,
        "finetune: you may not read ResourceQuota, LimitRange, FineTunePolicy of namespace NS, so the plan may exceed what they "
        "allow: pass --quota and --policy with a file, or ask for the right to read them\n",
    )
    assert named[2].startswith("finetune: you may not read FineTunePolicy of namespace NS, ")
