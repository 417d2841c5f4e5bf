"""Tasks of lm-eval from Pod to Pod: preflight reads them without torch and leaves them, the trainer asks what was left."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from finetune_contract import Evaluation, Location, PreflightConfig, parse_outcome
from finetune_trainer.exporting.export import export

from tests.trainer.data_inputs import a_config
from tests.trainer.lm_eval_tasks import CHOICES, LM_EVAL, WRITTEN, a_metric, jsonl, lm_eval_on_path, task_folder
from tests.trainer.running import Container, local_node
from tests.trainer.test_combining import adapter
from tests.trainer.test_merge_job import asked, merging
from tests.trainer.test_preflight_pod import in_a_pod
from tests.trainer.tiny import a_run, conversations, tiny_model

pytestmark = LM_EVAL


@pytest.fixture(scope="module", autouse=True)
def library() -> Iterator[Path]:
    with lm_eval_on_path() as folder:
        yield folder


@pytest.fixture
def measured(tmp_path: Path) -> PreflightConfig:
    """A job with a task of each kind."""
    model = tiny_model(tmp_path / "model", "qwen2")
    data = conversations(tmp_path / "train.jsonl", rows=60)
    tasks = task_folder(tmp_path / "tasks", CHOICES, WRITTEN)
    metrics = (a_metric(tasks, "echo_choice", "choice"), a_metric(tasks, "echo_written", "written"))
    evaluation = Evaluation(fraction=0.2, max_examples=12, metrics=metrics)
    return a_config(tmp_path, base=model, data=data, evaluation=evaluation)


def test_the_trainer_asks_what_preflight_left(tmp_path: Path, measured: PreflightConfig, library: Path):
    """The folder may change afterwards, as a claim does: what was counted and planned is what is measured."""
    script = (
        "import sys\nfrom finetune_trainer.__main__ import main\ncode = main(['preflight'])\n"
        "print(sorted(name for name, module in sys.modules.items() if name.split('.')[0] == 'torch' and module))\nsys.exit(code)"
    )
    done = in_a_pod(measured, tmp_path / "pod", "-c", script, PYTHONPATH=str(library))
    outcome = parse_outcome((tmp_path / "pod/termination-log").read_text())
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "[]"), (done.stderr, outcome)
    assert outcome is not None
    assert outcome.preflight is not None
    report = outcome.preflight
    (left,) = (tmp_path / "out/.checkpoints").glob("prepared-*")
    assert sorted(path.relative_to(left).as_posix() for path in (left / "tasks").rglob("*") if path.is_file()) == [
        "tasks/0/data/choice.jsonl", "tasks/0/task.json", "tasks/1/data/shots.jsonl", "tasks/1/data/written.jsonl",
        "tasks/1/task.json",
    ]  # fmt: skip

    jsonl(tmp_path / "tasks/choice.jsonl", [{"text": "changed"}])
    run = a_run(
        tmp_path, model=tmp_path / "model", data=tmp_path / "train.jsonl", evaluation=measured.evaluation, max_steps=2,
        sequence_length=report.sequence_length, dataset_digest=report.dataset_digest, prepared=Location(uri=report.prepared_uri),
    )  # fmt: skip
    code, trained = Container(run, tmp_path / "trainer", PYTHONPATH=str(library)).wait()

    assert code == 0
    assert trained.evaluation is not None
    assert [(one.name, one.examples) for one in trained.evaluation.metrics] == [("choice", 24), ("written", 24)]
    record = json.loads((tmp_path / "out/evaluation/metrics.json").read_text())
    assert {one["library"] for one in record} == {"lm-eval 0.4.13"}
    assert [(one["type"], one["task"], one["taskMetric"]) for one in record] == [
        ("lmEval", "echo_choice", "acc,none"), ("lmEval", "echo_written", "exact_match,first-word"),
    ]  # fmt: skip
    assert "| choice | 24 | " in (tmp_path / "out/adapter/README.md").read_text()
    assert sorted(path.name for path in (left / "tasks/0").iterdir()) == ["data", "task.json"]


def test_a_trainer_without_the_library_says_so_before_it_loads_a_model(tmp_path: Path, measured: PreflightConfig):
    """The images were built with different arguments: the GPUs are held for seconds."""
    run = a_run(tmp_path, model=tmp_path / "gone", data=tmp_path / "gone.jsonl", evaluation=measured.evaluation)
    code, outcome = Container(run, tmp_path / "trainer").wait()

    assert (code, outcome.reason, outcome.message) == (
        87, "InvalidSpec",
        "type lmEval needs lm-eval, which is not in this image: build the images of preflight and trainer with "
        "--build-arg EXTRAS=lm-eval, or, outside a cluster, install finetune-operator[lm-eval]",
    )  # fmt: skip


def test_merged_adapters_are_measured_on_tasks(tmp_path: Path):
    """A job that trains nothing measures as others do, on a CPU."""
    base, tasks = tiny_model(tmp_path / "base"), task_folder(tmp_path / "tasks", CHOICES)
    run = merging(tmp_path, base, (adapter(tmp_path / "one", base, 1), 1.0), (adapter(tmp_path / "two", base, 2), 1.0))
    evaluation = replace(run.evaluation, metrics=(a_metric(tasks, "echo_choice", "choice"),))
    with local_node(tmp_path / "workspace"):
        outcome = export(asked(replace(run, evaluation=evaluation)), tmp_path / "workspace")

    assert outcome.evaluation is not None
    (choice,) = outcome.evaluation.metrics
    assert (choice.name, choice.examples, choice.base is None) == ("choice", 24, False)
