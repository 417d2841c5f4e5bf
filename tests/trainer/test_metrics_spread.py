"""Metrics in several processes: each answers some rows, sharded weights are gathered in step, and the figures are one process's."""

from pathlib import Path

import pytest
from finetune_contract import Evaluation, Metric

from tests.trainer.running import IN_PROCESS, answers_at, trained
from tests.trainer.test_distributed import in_two_replicas
from tests.trainer.test_metrics import reviews
from tests.trainer.test_sharded import in_two_ranks
from tests.trainer.tiny import a_run, tiny_model

pytestmark = IN_PROCESS

EVALUATION = Evaluation(
    fraction=0.2, max_examples=13, max_answer_tokens=4, metrics=(Metric(name="label", type="label"), Metric(name="m", type="rougeL"))
)  # fmt: skip


@pytest.mark.parametrize("stage", [0, 3])
def test_two_processes_find_what_one_finds(tmp_path: Path, stage: int) -> None:
    """Thirteen rows, two at once, on two ranks: the last turn has a batch for one of them only, and nobody waits for ever."""
    model, data = tiny_model(tmp_path / "model", "qwen2"), reviews(tmp_path / "d.jsonl", rows=70)
    same = {"model": model, "data": data, "evaluation": EVALUATION, "answers_at_once": 2, "max_steps": 2}
    whole = trained(a_run(tmp_path / "whole", **same), tmp_path / "whole")
    if stage:
        run = a_run(tmp_path / "two", gpus_per_replica=2, micro_batch_size=2, zero_stage=stage, **same)
        outcome, _ = in_two_ranks(run, tmp_path / "two")
    else:
        run = a_run(tmp_path / "two", replicas=2, micro_batch_size=2, **same)
        (_, outcome), _ = in_two_replicas(run, tmp_path / "two")

    assert whole.evaluation is not None
    assert outcome.evaluation is not None
    assert [one.examples for one in outcome.evaluation.metrics] == [13, 13, 13]
    assert [one.base for one in outcome.evaluation.metrics] == [one.base for one in whole.evaluation.metrics]
    said, alike = (
        [each["base"]["answer"] for each in answers_at(tmp_path / name / "out")] for name in ("whole", "two")
    )
    assert said == alike
    assert len(set(said)) > 3
