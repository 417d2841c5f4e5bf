"""What `finetune manifests --for kserve` prints, taken by KServe's own custom resource definitions on the real API server."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.client import ApiError, Client, eventually
from tests.servers.control_plane import ControlPlane
from tests.unit.cli.test_manifests_command import artifact, finished, made

VERSION = "v0.17.0"
CRDS = "config/crd/full/llmisvc/serving.kserve.io_llminferenceservices.yaml"
SERVICES = "/apis/serving.kserve.io/v1alpha2/namespaces/default/llminferenceservices"


@pytest.fixture(scope="module")
def kserve(control_plane: ControlPlane, api: Client, tmp_path_factory: pytest.TempPathFactory) -> Client:
    """The API server with KServe's definitions, which its Go module holds."""
    folder = tmp_path_factory.mktemp("kserve")
    found = subprocess.run(
        ["go", "mod", "download", "-json", f"github.com/kserve/kserve@{VERSION}"],
        capture_output=True, text=True, check=True, cwd=folder,
    )  # fmt: skip
    control_plane.kubectl("apply", "--server-side", "-f", str(Path(json.loads(found.stdout)["Dir"]) / CRDS))
    eventually(lambda: is_served(api), "KServe's objects are served")
    return api


def is_served(api: Client) -> bool:
    """Their storage takes a moment, with 404 and 429 in between."""
    try:
        return "items" in api.get(SERVICES)
    except ApiError:
        return False


@pytest.mark.parametrize(
    "jobs",
    [
        (finished("one", artifact()), finished("two", artifact())),
        (finished("one", artifact(), artifact("merged")),),
        (finished("one", artifact("adapter", uri="pvc://results/out/adapter")),),
    ],
    ids=["two adapters", "merged", "one adapter on a claim"],
)
def test_kserve_takes_what_is_printed(kserve: Client, jobs: tuple[Any, ...]):
    """With strict validation, nothing is unknown, dropped or of another type."""
    (service,) = made("kserve", *jobs)
    service["metadata"]["namespace"] = "default"
    answer = kserve.create(f"{SERVICES}?dryRun=All&fieldValidation=Strict", service)

    assert answer["spec"]["model"] == service["spec"]["model"]
    (container,) = answer["spec"]["template"]["containers"]
    assert container["args"] == service["spec"]["template"]["containers"][0]["args"]
