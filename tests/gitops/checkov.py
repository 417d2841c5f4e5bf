"""checkov, which looks for weaknesses in manifests, in a virtual environment of its own: it pins other versions of what we use."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_operator.local.binaries import cache_root

VERSION = "3.3.30"

PROBES = "Pods of jobs run to their end and serve nobody; the trainer itself notices that it hangs, and ends"
WAIVED = {
    ("CKV_K8S_8", "Pod"): PROBES,
    ("CKV_K8S_9", "Pod"): PROBES,
    (
        "CKV_K8S_15",
        "Deployment",
    ): "an image named by digest cannot change, and Always stops Pods when the registry is down",
    ("CKV_K8S_15", "Pod"): "the same",
    ("CKV_K8S_38", "Deployment"): "the operator talks to the API server; no other Pod of the project mounts a token",
    ("CKV_K8S_43", "Deployment"): "no release has digests yet; image.digest and admission.images are the way to them",
    ("CKV_K8S_43", "Pod"): "the image is the chart's trainer.image",
}
"""Check and kind of what we do not follow -> why."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Finding:
    """What checkov has against an object."""

    check: str
    name: str
    resource: str

    @property
    def key(self) -> tuple[str, str]:
        """The check and the kind of the object."""
        return self.check, self.resource.split(".")[0]


def program() -> Path:
    """Return checkov's command, installing it once."""
    folder = cache_root() / "engines" / f"checkov-{VERSION}"
    if not (folder / "complete").is_file():
        print(f"installing checkov {VERSION} into {folder}")
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin/pip"), "install", "--quiet", f"checkov=={VERSION}"], check=True)
        (folder / "complete").touch()
    return folder / "bin/checkov"


def findings(folder: Path) -> tuple[int, list[Finding]]:
    """Return how many checks the manifests of a folder pass, and those that they fail. Nothing is asked of the network."""
    command = [
        str(program()),
        f"--directory={folder}",
        "--framework=kubernetes",
        "--output=json",
        "--compact",
        "--quiet",
    ]
    env = os.environ | {"LOG_LEVEL": "ERROR", "CHECKOV_RUN_SCA_PACKAGE_SCAN_V2": "false"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["summary"]["parsing_errors"] == 0, report["summary"]
    failed = [
        Finding(check=each["check_id"], name=each["check_name"], resource=each["resource"])
        for each in report["results"]["failed_checks"]
    ]
    return int(report["summary"]["passed"]), failed
