"""The recipes that people bring, end to end on small stand-ins: IMDb-style classification and GSM8K-style arithmetic."""

import json
import random
from pathlib import Path

import pytest
from finetune_contract import Columns, Dataset, Evaluation, Location, Metric
from finetune_trainer.errors import UserError

from tests.trainer.data_inputs import a_request, jsonl, loaded, model, prepared_rows
from tests.trainer.running import IN_PROCESS, trained
from tests.trainer.tiny import WORDS, a_run, tiny_model

pytestmark = [*IN_PROCESS, pytest.mark.usefixtures("local_files")]

NUMBERS = ("one", "two", "three", "four", "five")


def test_reviews_with_the_numbers_of_classes(tmp_path: Path) -> None:
    """IMDb as a CSV file: `text,label` with 0 and 1; the result is accuracy and macro F1 of named classes."""
    rng, lines = random.Random(0), ["text,label"]
    for _ in range(320):
        last = rng.choice(["cat", "dog", "red", "blue"])
        lines.append(f"{' '.join([*rng.choices(WORDS[:8], k=rng.randint(2, 5)), last])},{int(last in ('red', 'blue'))}")
    (tmp_path / "reviews.csv").write_text("\n".join(lines) + "\n")
    dataset = Dataset(
        location=Location(uri=f"file://{tmp_path}/reviews.csv"), prompt_template="north {text}", columns=Columns(completion="label"),
        class_names=("fish", "bird"),
    )  # fmt: skip
    run = a_run(
        tmp_path, model=tiny_model(tmp_path / "llama"), data=tmp_path, datasets=(dataset,), method="full", learning_rate=3e-3,
        max_steps=70, global_batch_size=16, micro_batch_size=16,
        evaluation=Evaluation(fraction=0.2, max_examples=60, metrics=(Metric(name="label", type="label"),)),
    )  # fmt: skip
    outcome = trained(run, tmp_path)

    assert outcome.evaluation is not None
    accuracy, macro_f1 = outcome.evaluation.metrics
    assert (accuracy.name, macro_f1.name) == ("label", "label.macroF1")
    assert min(accuracy.tuned[1], macro_f1.tuned[1]) > 0.75
    assert accuracy.verdict == macro_f1.verdict == "better"
    figures = json.loads((tmp_path / "out/evaluation/metrics.json").read_text())
    assert figures[0]["labels"] == ["bird", "fish"]


def test_arithmetic_in_words_with_its_result_behind_a_mark(tmp_path: Path) -> None:
    """GSM8K: `question` and `answer` with `#### 3`; the base model has no result, the tuned one has the right one."""
    rng, rows = random.Random(1), []
    for _ in range(320):
        number = rng.randrange(5)
        question = f"{' '.join(rng.choices(WORDS[8:], k=rng.randint(1, 2)))} {NUMBERS[number]}"
        rows.append({"question": question, "answer": f"{NUMBERS[number]}\n#### {number + 1}"})
    data = jsonl(tmp_path / "gsm8k.jsonl", rows)
    run = a_run(
        tmp_path, model=tiny_model(tmp_path / "llama"), data=data, method="full", learning_rate=3e-3,
        max_steps=160, global_batch_size=16, micro_batch_size=16, answers_at_once=16,
        evaluation=Evaluation(fraction=0.2, max_examples=50, metrics=(Metric(name="numeric", type="numeric"),), max_answer_tokens=12),
    )  # fmt: skip
    outcome = trained(run, tmp_path)

    assert outcome.evaluation is not None
    (numeric,) = outcome.evaluation.metrics
    assert numeric.base == (0.0, 0.0, round(3 / numeric.examples, 4))
    assert numeric.tuned[1] > 0.75
    assert numeric.verdict == "better"


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ([{"text": f"a {n}", "label": n % 3} for n in range(9)], Columns(prompt="text", completion="label"),
         "its label is 2, but classNames has 2 names, for 0 to 1: if the numbers begin at 1, each has the name of the next one"),
        ([{"text": f"a {n}"} for n in range(9)], Columns(),
         "is read as text, so datasets[].classNames has no effect: name the column of the class in columns.completion, or remove "
         "classNames"),
    ],
)  # fmt: skip
def test_class_names_that_do_not_fit_are_refused(tmp_path: Path, rows: list, columns: Columns, message: str) -> None:
    """A number without a name, and data without classes."""
    file = jsonl(tmp_path / "d.jsonl", rows)
    dataset = Dataset(location=Location(uri=f"file://{file}"), columns=columns, class_names=("no", "yes"))
    with pytest.raises(UserError) as refused:
        prepared_rows(a_request(file, datasets=(dataset,)), loaded(model(tmp_path / "m")), tmp_path)

    assert message in refused.value.message
