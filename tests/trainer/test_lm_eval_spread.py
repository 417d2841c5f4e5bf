"""Tasks of lm-eval in two processes: each answers some batches, sharded weights are gathered in step, and the figures are one process's."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from finetune_contract import Evaluation

from tests.trainer.lm_eval_tasks import CHOICES, LM_EVAL, WRITTEN, a_metric, lm_eval_on_path, task_folder
from tests.trainer.running import answers_at, trained
from tests.trainer.test_metrics import reviews
from tests.trainer.test_sharded import in_two_ranks
from tests.trainer.tiny import a_run, tiny_model

pytestmark = LM_EVAL


@pytest.fixture(scope="module", autouse=True)
def library() -> Iterator[Path]:
    with lm_eval_on_path() as folder:
        yield folder


def test_two_processes_with_sharded_weights_find_what_one_finds(tmp_path: Path, library: Path) -> None:
    """At ZeRO-3 no process may be alone in a forward pass: batches of answers end at different tokens, and the last turn is uneven."""
    model, data = tiny_model(tmp_path / "model", "qwen2"), reviews(tmp_path / "d.jsonl", rows=70)
    tasks = task_folder(tmp_path / "tasks", CHOICES, WRITTEN, documents=9)
    metrics = (a_metric(tasks, "echo_choice", "choice"), a_metric(tasks, "echo_written", "written"))
    evaluation = Evaluation(fraction=0.2, max_examples=12, metrics=metrics)
    same = {"model": model, "data": data, "evaluation": evaluation, "answers_at_once": 2, "max_steps": 2}
    whole = trained(a_run(tmp_path / "whole", **same), tmp_path / "whole")
    run = a_run(tmp_path / "two", gpus_per_replica=2, micro_batch_size=2, zero_stage=3, **same)
    outcome, log = in_two_ranks(run, tmp_path / "two", PYTHONPATH=str(library))

    assert "DeepSpeed at ZeRO stage 3" in log
    assert whole.evaluation is not None
    assert outcome.evaluation is not None
    assert [(one.name, one.examples) for one in outcome.evaluation.metrics] == [("choice", 9), ("written", 9)]
    assert [one.base for one in outcome.evaluation.metrics] == [one.base for one in whole.evaluation.metrics]
    said, alike = (
        [each["base"]["answer"] for each in answers_at(tmp_path / name / "out")] for name in ("whole", "two")
    )
    assert said == alike
    assert len(set(said)) > 3
