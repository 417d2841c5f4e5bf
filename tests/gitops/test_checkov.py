"""What checkov says of the chart, of the kustomize base and of the Pods of jobs: nothing that is not waived with a reason."""

import json
from pathlib import Path

import pytest
import yaml

from tests.gitops.checkov import WAIVED, Finding, findings
from tests.golden.chart import GOLDEN, KUSTOMIZE, SETS

pytestmark = pytest.mark.gitops

JOBS = GOLDEN.parent / "manifests"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    """The findings in all renderings, the base and the manifests of jobs."""
    folder = tmp_path_factory.mktemp("manifests")
    for name in SETS:
        (folder / f"{name}.yaml").write_text((GOLDEN / f"{name}.yaml").read_text())
    for file in KUSTOMIZE.glob("*.yaml"):
        if file.name != "kustomization.yaml":
            (folder / f"kustomize-{file.name}").write_text(file.read_text())
    for file in JOBS.glob("*.json"):
        objects = json.loads(file.read_text())
        (folder / f"job-{file.stem}.yaml").write_text(
            yaml.safe_dump_all(objects if isinstance(objects, list) else [objects])
        )
    passed, failed = findings(folder)
    assert passed > 700
    return failed


def test_nothing_is_found_that_is_not_waived(found: list[Finding]):
    """A new finding is mended, or gets its reason in WAIVED."""
    assert sorted(each for each in found if each.key not in WAIVED) == []


def test_every_waiver_is_still_needed(found: list[Finding]):
    """One that nothing needs any more would hide the next finding."""
    assert sorted({each.key for each in found}) == sorted(WAIVED)


def test_checkov_finds_what_is_wrong(tmp_path: Path):
    """A Pod that runs as root with everything allowed does not pass."""
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bad", "namespace": "x"},
        "spec": {"containers": [{"name": "c", "image": "x:latest", "securityContext": {"privileged": True}}]},
    }  # fmt: skip
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump(pod))
    _, failed = findings(tmp_path)

    assert {"CKV_K8S_14", "CKV_K8S_16"} <= {each.check for each in failed}
