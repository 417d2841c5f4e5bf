"""The operator's rules against what it did: the API server wrote down every request. Runs after all others."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.cluster.client import eventually
from tests.real_node.audit import Grant, asked, requests
from tests.real_node.installation import CHART
from tests.real_node.workspace import Workspace

pytestmark = pytest.mark.real_node

ASKED_BY_ADMISSION = {("update", "finetune.dev/finetunejobs/finalizers")}
"""No request of its own: admission asks for it when a child is created that blocks its owner's deletion."""

ASKED_LATE = {("list", "events.k8s.io/events")}
"""Only of a Pod that has waited for two minutes, as none does here; tests/cluster/test_situations_words.py has one that does."""

OPTIONAL = ("kueue", "kueueCluster", "podGroups")
"""Off by default, and not installed here; tests/gitops asks for these beside the real Kueue and the definitions of PodGroups."""


def granted() -> set[Grant]:
    """Return what the chart's rules allow by default."""
    rules = YAML(typ="safe").load((CHART / "files/rbac-rules.yaml").read_text())
    return {
        (verb, f"{group}/{resource}")
        for name, part in rules.items()
        if name not in OPTIONAL
        for rule in part
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_a_policy_says_what_is_used(workspace: Workspace):
    """An installed operator may write it."""
    policy = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTunePolicy"}
    where = {"name": "default", "namespace": workspace.namespace}
    workspace.cluster.apply(policy | {"metadata": where, "spec": {"limits": {"gpus": 2}}})

    def used() -> object:
        found = workspace.cluster.get("finetunepolicy", "default", "-n", workspace.namespace)
        return found.get("status", {}).get("gpusInUse")

    try:
        eventually(lambda: used() == 0, "the policy says that no GPU is in use", 60)
    finally:
        workspace.cluster.kubectl("delete", "finetunepolicy", "default", "-n", workspace.namespace)


def test_what_the_operator_asked_for_is_what_the_chart_grants(workspace: Workspace, request: pytest.FixtureRequest):
    """No rule is missing and none is too many, over everything that the tests on real nodes made the operator do.

    A request that was refused is in the log, too: it would be one that the rules lack.
    """
    folders = {item.path.name for item in request.session.items if item.path.parent == Path(__file__).parent}
    if folders != {path.name for path in Path(__file__).parent.glob("test_*.py")}:
        pytest.skip("the log is complete only after all tests on real nodes: run the whole folder")
    entries = requests(workspace.installation.cluster.audit_log)

    assert {asked(entry) for entry in entries} | ASKED_BY_ADMISSION | ASKED_LATE == granted()


def test_the_one_rule_without_a_request_is_asked_for_by_admission(workspace: Workspace):
    """Where OwnerReferencesPermissionEnforcement is on, nobody without it may create a child that blocks the deletion."""
    cluster, namespace = workspace.cluster, workspace.namespace
    owner = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob", "name": "any", "uid": "any"}
    references = [owner | {"controller": True, "blockOwnerDeletion": True}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "any-0", "namespace": namespace, "ownerReferences": references},
        "spec": {"clusterIP": "None", "ports": [{"port": 1}]},
    }
    cluster.kubectl("create", "role", "all-but-one", "--verb=create", "--resource=services", "-n", namespace)
    cluster.kubectl("create", "rolebinding", "all-but-one", "--role=all-but-one", "--user=limited", "-n", namespace)
    answer = cluster.kubectl("create", "-f", "-", "--as=limited", given=service, check=False)

    assert (answer.returncode, answer.stderr.strip()) == (
        1,
        'Error from server (Forbidden): error when creating "STDIN": services "any-0" is forbidden: cannot set '
        "blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: , <nil>",
    )
