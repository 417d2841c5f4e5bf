"""`finetune calibrate` over files: measured against predicted."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from finetune_operator.cli.calibrate import command
from finetune_operator.errors import FinetuneError

from tests.unit.planning.test_planner import planned

TIME = "2026-11-23T10:00:00Z"


def a_finished_job(name: str, *, speed: float, memory: float, attempts: int = 1) -> dict[str, Any]:
    """Return a job whose run was so many times as fast, and took so many times the memory, as planned."""
    plan = planned(method="lora", resources={"gpus": 1}).plan
    planned_cost = float(plan.estimate.cost_usd)
    return {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name, "namespace": "team-a", "uid": name},
        "spec": {
            "model": {"source": "hf://org/model"},
            "datasets": [{"source": "s3://team-a/train.jsonl"}],
            "output": {"destination": "s3://team-a/out"},
        },
        "status": {
            "plan": plan.model_dump(),
            "completionTime": TIME,
            "attempts": [{"number": number, "startTime": TIME} for number in range(attempts)],
            "progress": {
                "step": 174, "totalSteps": 174, "percent": 100, "lastReportTime": TIME,
                "tokensPerSecond": str(round(speed * float(plan.estimate.tokens_per_second))),
            },
            "memory": {"predictedGiB": "20.00", "measuredGiB": f"{20 * memory:.2f}"},
            "cost": {"costUSD": f"{planned_cost / speed:.4f}"},
        },
    }  # fmt: skip


def calibrate(tmp_path: Path, capsys: pytest.CaptureFixture[str], *jobs: dict[str, Any]) -> list[str]:
    file = tmp_path / "jobs.yaml"
    file.write_text(json.dumps({"kind": "List", "items": jobs}))
    command(file=[file])
    return capsys.readouterr().out.splitlines()


def test_measured_over_predicted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """One line per job, one sentence per quantity; what is off names the file to look at."""
    lines = calibrate(
        tmp_path, capsys, a_finished_job("one", speed=0.5, memory=1.02), a_finished_job("two", speed=0.6, memory=0.98)
    )

    assert lines == [
        "measured / predicted  memory   speed    cost  layout",
        "team-a/one              1.02    0.50    2.00  lora on 1 x H100-80GB-HBM3",
        "team-a/two              0.98    0.60    1.67  lora on 1 x H100-80GB-HBM3",
        "",
        "memory: median 1.00 over 2 jobs, from 0.98 to 1.02; as planned",
        "speed: median 0.55 over 2 jobs, from 0.50 to 0.60; off: runs are slower than planned (planning/speed/)",
        "cost: median 1.83 over 2 jobs, from 1.67 to 2.00; off: GPUs are in use for longer than planned (planning/speed/duration.py, "
        "if speed is as planned)",
    ]


def test_what_is_off_is_told_per_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Memory of ZeRO-3 off and all else right is another fault than everything off."""
    sharded = a_finished_job("sharded", speed=1, memory=1.4)
    sharded["status"]["plan"] |= {"zeroStage": 3}
    lines = calibrate(tmp_path, capsys, sharded, a_finished_job("plain", speed=1, memory=1.0))

    assert lines[4:7] == [
        "memory: median 1.20 over 2 jobs, from 1.00 to 1.40; off: runs use more memory than planned (planning/memory/)",
        "  1.00 of 1 job: lora on 1 x H100-80GB-HBM3",
        "  1.40 of 1 job: lora on 1 x H100-80GB-HBM3, ZeRO-3",
    ]


def test_a_run_that_was_interrupted_says_nothing_about_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """An estimate does not know failures."""
    lines = calibrate(tmp_path, capsys, a_finished_job("one", speed=1, memory=1, attempts=2))

    assert lines[1] == "team-a/one              1.00    1.00       -  lora on 1 x H100-80GB-HBM3"
    assert lines[-1] == "cost: no measurements"


def test_nothing_to_compare_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A job that has not run yet is no measurement."""
    job = a_finished_job("one", speed=1, memory=1)
    job["status"] = {}
    with pytest.raises(FinetuneError, match="nothing to compare: none of the 1 jobs found has a plan and has finished"):
        calibrate(tmp_path, capsys, job)


@pytest.mark.parametrize("text", ["", "kind: List\nitems: null\n", "kind: List\nitems: [1, 2]\n", "items: 5\n"])
def test_a_file_without_jobs_is_refused(text: str, tmp_path: Path):
    """An empty list of kubectl's, or any other YAML."""
    file = tmp_path / "jobs.yaml"
    file.write_text(text)
    with pytest.raises(FinetuneError, match=r"^no FineTuneJobs found: "):
        command(file=[file])


def test_files_and_a_cluster_are_not_read_together(tmp_path: Path):
    """The options of a cluster would be ignored."""
    with pytest.raises(
        typer.BadParameter, match="--file cannot be combined with --kubeconfig, --context or --namespace"
    ):
        command(file=[tmp_path / "jobs.yaml"], namespace="team-a")


def test_the_file_that_is_no_yaml_is_named(tmp_path: Path):
    """--file may be given many times."""
    file = tmp_path / "jobs.yaml"
    file.write_text("a: [")
    with pytest.raises(FinetuneError, match=rf"^{file}: is not YAML"):
        command(file=[file])
