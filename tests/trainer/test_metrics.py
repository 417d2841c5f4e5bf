"""Base and tuned model judged on held-out rows, end to end on tiny models: figures, intervals, and every answer on disk."""

import hashlib
import json
import random
from pathlib import Path

import pytest
from finetune_contract import Dataset, Evaluation, Location, Metric
from finetune_trainer.training.asking import Interview
from finetune_trainer.training.train import prepare

from tests.trainer.running import IN_PROCESS, answers_at, bench, local_node, trained, whole_and_resumed
from tests.trainer.tiny import WORDS, a_run, tiny_model

pytestmark = IN_PROCESS


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("llama"))


def reviews(file: Path, *, rows: int, seed: int = 0) -> Path:
    """Texts whose last word decides: fish after an animal, green after a colour."""
    rng, lines = random.Random(seed), []
    for _ in range(rows):
        last = rng.choice(["cat", "dog", "red", "blue"])
        text = " ".join([*rng.choices(WORDS[:8], k=rng.randint(2, 6)), last])
        lines.append(json.dumps({"prompt": text, "completion": "fish" if last in ("cat", "dog") else "green"}))
    file.write_text("\n".join(lines) + "\n")
    return file


def at(file: Path) -> Dataset:
    return Dataset(location=Location(uri=f"file://{file}"))


def test_a_classifier_is_judged_by_accuracy_and_macro_f1(tmp_path: Path, llama: Path) -> None:
    """Labels are compared by likelihood, so that a base model that says anything else is given its due; forgetting is seen too."""
    data, other = reviews(tmp_path / "train.jsonl", rows=300), tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps({"prompt": word, "completion": word}) + "\n" for word in WORDS))
    metrics = (
        Metric(name="label", type="label"),
        Metric(name="exact", type="exactMatch"),
        Metric(name="kept", type="contains", source=at(other)),
    )
    evaluation = Evaluation(fraction=0.2, max_examples=60, metrics=metrics, max_answer_tokens=4)
    run = a_run(
        tmp_path, model=llama, data=data, evaluation=evaluation, max_steps=70, global_batch_size=16, micro_batch_size=16,
        method="full", learning_rate=3e-3, answers_at_once=16,
    )  # fmt: skip
    outcome = trained(run, tmp_path)

    assert outcome.evaluation is not None
    found = {result.name: result for result in outcome.evaluation.metrics}
    assert {name: result.examples for name, result in found.items()} == {
        "label": 58, "label.macroF1": 58, "exact": 58, "kept": len(WORDS),
    }  # fmt: skip
    for name in ("label", "label.macroF1", "exact"):
        assert found[name].tuned[1] >= 0.8, found[name]
        assert found[name].verdict == "better"
    assert found["exact"].base[0] == 0.0
    assert found["kept"].tuned[0] < 0.5

    answers = answers_at(tmp_path / "out")
    asked = [answer for answer in answers if "source" not in answer]
    assert len(asked) == 58
    assert sum(answer["scores"]["exact"]["tuned"] for answer in asked) / 58 == pytest.approx(
        found["exact"].tuned[0], abs=1e-4
    )
    assert all(
        (answer["tuned"]["answer"] == answer["reference"]) == answer["scores"]["exact"]["tuned"] for answer in asked
    )
    assert all(answer["prompt"].endswith("<|im_start|>assistant\n") for answer in asked)
    manifest = json.loads((tmp_path / "out/finetune-manifest.json").read_text())
    record = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "out/evaluation").iterdir()
    }
    assert manifest["evaluationFiles"] == record
    card = (tmp_path / "out/model/README.md").read_text()
    assert "| label | 58 | " in card
    assert "label, tuned model: lines are the labels of the data" in card


def test_answers_do_not_depend_on_how_many_are_given_at_once(tmp_path: Path) -> None:
    """Prompts of different lengths are padded on the left, and the padding is masked."""
    evaluation = Evaluation(
        fraction=0.2, max_examples=20, metrics=(Metric(name="m", type="rougeL"),), max_answer_tokens=6
    )
    talkative = tiny_model(tmp_path / "qwen2", "qwen2")
    run = a_run(tmp_path, model=talkative, data=reviews(tmp_path / "train.jsonl", rows=100), evaluation=evaluation)
    with local_node(tmp_path):
        tools = bench(tmp_path, run)
        session = prepare(run, tools)
        said = [
            Interview(
                stops=session.rows.stops, row_tokens=64,
                trainer=session.loop.trainer, at_once=at_once, max_new_tokens=6, beat=tools.heartbeat.beat, keep_going=lambda: True
            ).answers(session.rows.questions, evaluation)
            for at_once in (1, 7)
        ]  # fmt: skip

    assert said[0] == said[1]
    assert len({one.raw for one in said[0] or ()}) > 3


def test_the_base_models_answers_survive_a_preemption(tmp_path: Path, llama: Path) -> None:
    """A resumed run holds other weights; what the base model said is kept beside the checkpoints."""
    evaluation = Evaluation(
        fraction=0.2, max_examples=20, metrics=(Metric(name="m", type="label"),), max_answer_tokens=4
    )
    run = a_run(
        tmp_path, model=llama, data=reviews(tmp_path / "train.jsonl", rows=100), evaluation=evaluation, method="full",
    )  # fmt: skip
    whole, resumed = whole_and_resumed(run, tmp_path)

    assert whole.evaluation is not None
    assert resumed.evaluation == whole.evaluation
