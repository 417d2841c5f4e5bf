"""kustomize renames what a FineTuneJob refers to, with the file that this repository ships for it."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.plays import a_job
from tests.servers.control_plane import ControlPlane

pytestmark = pytest.mark.gitops

REFERENCES = Path(__file__).parents[2] / "gitops/kustomize/references.yaml"
SECRET = {"credentials": {"secretName": "s3"}}


@pytest.mark.parametrize("configured", [True, False])
def test_secrets_with_a_suffix_are_found(control_plane: ControlPlane, tmp_path: Path, *, configured: bool):
    """secretGenerator adds a hash to the name; without the file the job would go on naming a Secret that does not exist."""
    job = a_job(
        "bot",
        datasets=[{"source": "s3://bucket/a.jsonl", **SECRET}, {"source": "s3://bucket/b.jsonl", **SECRET}],
        output={"destination": "s3://bucket/out", **SECRET},
        serviceAccountName="trainer",
    )
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "trainer"}}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump_all([job, account]))
    (tmp_path / "references.yaml").write_text(REFERENCES.read_text())
    kustomization = {
        "resources": ["job.yaml"], "namePrefix": "team-", "secretGenerator": [{"name": "s3", "literals": ["key=value"]}],
        **({"configurations": ["references.yaml"]} if configured else {}),
    }  # fmt: skip
    (tmp_path / "kustomization.yaml").write_text(json.dumps(kustomization))
    built = list(yaml.safe_load_all(control_plane.kubectl("kustomize", str(tmp_path)).stdout))
    by_kind: dict[str, Any] = {each["kind"]: each for each in built}
    spec, secret = by_kind["FineTuneJob"]["spec"], by_kind["Secret"]["metadata"]["name"]
    named = [each["credentials"]["secretName"] for each in (*spec["datasets"], spec["output"])]

    assert secret.startswith("team-s3-")
    assert (named, spec["serviceAccountName"]) == (
        ([secret] * 3, "team-trainer") if configured else (["s3"] * 3, "trainer")
    )
