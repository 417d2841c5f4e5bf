"""A job in git, an operator, and what has become of the job: what the tests with Argo CD and with Flux share."""

from dataclasses import dataclass
from typing import Any

from tests.cluster.client import Client, eventually
from tests.cluster.plays import a_job
from tests.cluster.test_controller_runs import jobs, pods, reaches
from tests.gitops.git import Repository
from tests.gitops.table import Fate

Raw = dict[str, Any]

KEPT = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept"}, "data": {}}
"""Without a second object, Argo CD refuses to prune the last one."""


@dataclass
class Stage:
    """One folder of a repository with one job, and the namespace that it is applied to."""

    api: Client
    repo: Repository
    namespace: str
    uid: str = ""

    def put(self, job: Raw) -> str:
        """Write the job, and commit."""
        self.repo.write("jobs/kept.yaml", KEPT)
        self.repo.write("jobs/job.yaml", job)
        return self.repo.commit()

    def appears(self, name: str = "bot") -> str:
        """Wait until the job is in the cluster; return its uid, and remember it."""
        found = eventually(lambda: self.api.find(f"{jobs(self.namespace)}/{name}"), f"{name} is applied", 90)
        self.uid = found["metadata"]["uid"]
        return self.uid

    def reaches(self, phase: str, name: str = "bot") -> Raw:
        """Wait until the job has a phase; return it."""
        self.appears(name)
        return reaches(self.api, self.namespace, name, phase)

    def job(self, name: str = "bot") -> Raw | None:
        return self.api.find(f"{jobs(self.namespace)}/{name}")

    def suspended(self) -> bool:
        """Tell whether the spec asks for it."""
        found = self.job()
        assert found is not None
        return bool(found["spec"].get("suspend"))

    def fate(self, before: str, name: str = "bot") -> Fate:
        """Say what has become of the job that had a uid."""
        now = self.job(name)
        if now is not None:
            return "continues" if now["metadata"]["uid"] == before else "runs again"
        return "another" if self.api.items(jobs(self.namespace)) else "gone"

    def no_pods(self) -> bool:
        return not self.api.items(pods(self.namespace))

    def trainers(self) -> list[str]:
        """Return the names of the trainer Pods."""
        found = self.api.items(pods(self.namespace), labelSelector="finetune.dev/role=trainer")
        return [pod["metadata"]["name"] for pod in found]


def reap(api: Client, namespace: str) -> None:
    """Let Pods that are being deleted go, as a kubelet would: nothing else plays those that are not of a job."""
    found = api.items(pods(namespace)) if api.find(f"/api/v1/namespaces/{namespace}") else []
    for pod in found:
        if "deletionTimestamp" in pod["metadata"]:
            api.delete(f"{pods(namespace)}/{pod['metadata']['name']}", gracePeriodSeconds=0)


def bot(**spec: Any) -> Raw:
    """Return the job."""
    return a_job("bot", **spec)


def steps(most: int) -> Raw:
    """Return a part of the spec that is frozen with the first attempt."""
    return {"training": {"maxSteps": most}}
