"""Who created a job: stamped by the real API server where the chart's createdBy is enabled, and true whatever users write."""

from collections.abc import Iterator

import pytest

from tests.cluster.client import ApiError, Client, eventually
from tests.cluster.plays import a_job
from tests.cluster.test_controller_runs import jobs
from tests.servers.control_plane import ControlPlane
from tests.servers.helm import Helm, objects

pytestmark = pytest.mark.cluster

ANNOTATION = "finetune.dev/created-by"
SERVED = "--api-versions=admissionregistration.k8s.io/v1/MutatingAdmissionPolicy"


@pytest.fixture
def stamped(api: Client, control_plane: ControlPlane, namespace: str) -> Iterator[str]:
    """The chart's admission policies, in force: they take effect some time after they are created. Yields the user's name."""
    manifests = objects(Helm().template("--set=createdBy.enabled=true", SERVED))
    policies = [each for each in manifests if "AdmissionPolicy" in each["kind"]]
    assert len(policies) == 4
    control_plane.apply(*policies)

    def in_force() -> str:
        try:
            probe = api.create(f"{jobs(namespace)}?dryRun=All", a_job("probe"))
        except ApiError:  # the validation is there before the stamp
            return ""
        return probe["metadata"].get("annotations", {}).get(ANNOTATION, "")

    user = eventually(in_force, "a job is stamped")
    eventually(lambda: refuses(api, namespace), "another name is refused", 30)
    yield user
    for each in policies:
        control_plane.kubectl("delete", each["kind"].lower(), each["metadata"]["name"])


def refuses(api: Client, namespace: str) -> bool:
    """Tell whether a job that exists cannot be given a creator."""
    path = f"{jobs(namespace)}/early"
    api.ensure(jobs(namespace), a_job("early"))
    try:
        api.patch(f"{path}?dryRun=All", {"metadata": {"annotations": {ANNOTATION: "somebody-else"}}})
    except ApiError:
        return True
    found = api.get(path)["metadata"].get("annotations", {}).get(ANNOTATION)
    return found is not None  # the stamp overrules it


def test_the_creator_is_the_user_whom_the_api_server_knows(api: Client, namespace: str, stamped: str):
    """Whatever a manifest claims, and whatever is changed or removed later."""
    claimed = a_job("one")
    claimed["metadata"]["annotations"] = {ANNOTATION: "the-boss"}
    made = api.create(jobs(namespace), claimed)
    renamed = api.patch(f"{jobs(namespace)}/one", {"metadata": {"annotations": {ANNOTATION: "the-boss"}}})
    removed = api.patch(f"{jobs(namespace)}/one", {"metadata": {"annotations": {ANNOTATION: None}}})
    replaced = api.request(
        "PUT", f"{jobs(namespace)}/one", {**removed, "metadata": {**removed["metadata"], "annotations": {}}}
    )

    assert stamped
    for each in (made, renamed, removed, replaced):
        assert each["metadata"]["annotations"][ANNOTATION] == stamped


def test_users_are_told_apart(control_plane: ControlPlane, namespace: str, stamped: str):
    """Each by the name of the request; labels and other annotations stay as they are written."""
    control_plane.kubectl("create", "rolebinding", "ann", "--clusterrole=cluster-admin", "--user=ann", "-n", namespace)
    manifest = a_job("hers")
    manifest["metadata"] |= {"namespace": namespace, "annotations": {"note": "kept"}}
    control_plane.kubectl("create", "--as=ann", "-f", "-", given=manifest)
    found = control_plane.get("ftj", "hers", "-n", namespace)

    assert found["metadata"]["annotations"] == {"note": "kept", ANNOTATION: "ann"}
