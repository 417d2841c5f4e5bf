"""`finetune plan` of a job that merges adapters: a Pod without GPUs, and what it assumes."""

import json
from pathlib import Path

from finetune_operator.cli.app import app
from typer.testing import CliRunner

JOB = """
apiVersion: finetune.dev/v1alpha1
kind: FineTuneJob
metadata: {name: both}
spec:
  model: {source: hf://Qwen/Qwen2.5-1.5B-Instruct}
  mergeOf:
    adapters:
      - {source: s3://team-a/north/adapter, weight: "100"}
      - {source: gs://team-a/south/adapter, weight: "300"}
  datasets: [{source: s3://team-a/rows.jsonl}]
  output: {destination: s3://team-a/both, exports: [merged]}
"""


def test_memory_disk_and_time_are_shown_and_no_gpu_is_planned(tmp_path: Path):
    """No pool is asked for; the sizes of the adapters are assumed until preflight has read them."""
    file = tmp_path / "job.yaml"
    file.write_text(JOB)
    shown = CliRunner().invoke(app, ["plan", "-f", str(file), "--examples", "1000", "--tokens-per-example", "200"])
    asked = CliRunner().invoke(app, ["plan", "-f", str(file), "-o", "json"])

    first, *rest = shown.output.splitlines()
    assert first.startswith("both: merges 2 adapters by average in a Pod of 4 CPUs, "), repr(shown.exception)
    assert first.endswith("; no GPU, $0.00")
    assert rest[:2] == ["adapters    100 x s3://team-a/north/adapter", "            300 x gs://team-a/south/adapter"]
    assert rest[-1] == "cost        $0.00: no GPU is used; CPU nodes have no price"
    plan = json.loads(asked.output)["plan"]
    assert plan["cpus"] == 4
    assert plan["memoryGiB"] >= 6
