"""Base and tuned model judged on held-out rows, end to end on tiny models: figures, intervals, and every answer on disk."""

import json
import random
from pathlib import Path

import pytest
from finetune_contract import Evaluation, Metric

from tests.trainer.running import IN_PROCESS, trained
from tests.trainer.tiny import WORDS, a_run, tiny_model

pytestmark = IN_PROCESS


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("llama"))


def reviews(file: Path, *, rows: int, seed: int = 0) -> Path:
    """Texts with a word that decides: the label is animal where the last word is one, else colour."""
    rng, lines = random.Random(seed), []
    for _ in range(rows):
        last = rng.choice(["cat", "dog", "red", "blue"])
        text = " ".join([*rng.choices(WORDS[:8], k=rng.randint(2, 6)), last])
        lines.append(json.dumps({"prompt": text, "completion": "fish" if last in ("cat", "dog") else "green"}))
    file.write_text("\n".join(lines) + "\n")
    return file


def test_a_classifier_is_judged_by_accuracy_and_macro_f1(tmp_path: Path, llama: Path) -> None:
    """Labels are compared by likelihood, so that a base model that says anything else is still given its due."""
    data = reviews(tmp_path / "train.jsonl", rows=400)
    evaluation = Evaluation(
        fraction=0.2, max_examples=60,
        metrics=(Metric(name="label", type="label"), Metric(name="exact", type="exactMatch")), max_answer_tokens=8,
    )  # fmt: skip
    run = a_run(tmp_path, model=llama, data=data, evaluation=evaluation, max_steps=60, global_batch_size=8,
                micro_batch_size=8, answers_at_once=16)  # fmt: skip
    outcome = trained(run, tmp_path)

    assert outcome.evaluation is not None
    found = {result.name: result for result in outcome.evaluation.metrics}
    print(found)
    assert list(found) == ["label", "label.macroF1", "exact"]
    answers = [json.loads(line) for line in (tmp_path / "out/evaluation/answers.jsonl").read_text().splitlines()]
    assert len(answers) == 60 == found["label"].examples
    print(answers[0])
    print((tmp_path / "out/adapter/README.md").read_text())
    print((tmp_path / "out/evaluation/metrics.json").read_text())
    assert found["label"].tuned[1] > 0.8 > found["label"].base[0]
