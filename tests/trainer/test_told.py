"""A Pod whose image is older than the operator: what the job cannot do without is refused, before a GPU computes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from finetune_contract import Outcome, parse_outcome
from finetune_contract.run_file import write
from finetune_operator.manifests.run_config import preflight_config, run_config

from tests.unit.manifests.manifest_builders import a_pinned_job

JOB = a_pinned_job()
CONFIGS: dict[str, Any] = {"train": run_config(JOB, JOB.status, 0), "preflight": preflight_config(JOB, 1)}


def ended(verb: str, run: dict[str, Any], folder: Path) -> tuple[int, Outcome | None]:
    """Run a verb on a run file; return its exit code and outcome."""
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "workspace").mkdir()
    places = {"RUN_CONFIG": "run.json", "WORKSPACE": "workspace", "TERMINATION_LOG": "termination"}
    environment = os.environ | {f"FINETUNE_{name}": str(folder / where) for name, where in places.items()}
    command = [sys.executable, "-m", "finetune_trainer", verb]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (folder / "termination").is_file(), done.stderr
    return done.returncode, parse_outcome((folder / "termination").read_text())


@pytest.mark.parametrize("verb", CONFIGS)
def test_a_field_that_changes_the_result_is_refused(verb: str, tmp_path: Path):
    """By its path, with what to do; the exit code says that another attempt is useless."""
    newer = {"shuffle": "blocks", "carbonGrams": 12, "optional": ["carbonGrams"]}

    code, outcome = ended(verb, json.loads(write(CONFIGS[verb])) | newer, tmp_path)

    assert code == 87
    assert outcome == Outcome(
        outcome="Failed",
        reason="TrainerOutdated",
        message="the image of this Pod is older than the operator and does not know the field shuffle, which the job uses: set "
        "trainer.image and trainer.preflightImage of the chart to images of the operator's version",
    )
