"""Metrics from the YAML file to the status: preflight, plan, trainer, gate, and the answers beside the result."""

import json
from pathlib import Path

import pytest

from tests.e2e.product import Product

pytestmark = pytest.mark.e2e


def test_answers_are_measured_planned_and_gated(product: Product):
    """The condition says the figures, and the record has every answer."""
    product.submit(
        "judged",
        evaluation={
            "fraction": "0.2",
            "maxExamples": 24,
            "maxAnswerTokens": 8,
            "metrics": [{"type": "rougeL"}, {"type": "exactMatch", "name": "exact"}],
            "gate": {
                "metrics": [{"metric": "exact", "minValue": "0.99"}, {"metric": "rougeL", "maxRegression": "0.5"}]
            },
        },
    )
    status = product.finish("judged")
    truth, reason, message = product.condition(status, "Promoted")
    metrics = {metric["name"]: metric for metric in status["evaluation"]["metrics"]}
    lines = (Path(product.folder) / "judged/evaluation/answers.jsonl").read_text().splitlines()

    assert status["preflight"]["generatedAnswers"] == 24 == len(lines)
    assert status["plan"]["answersAtOnce"] > 1
    assert list(metrics) == ["rougeL", "exact"]
    assert {"base", "tuned", "differenceLow", "verdict"} <= set(metrics["exact"])
    assert (truth, reason) == ("False", "GateFailed")
    assert message.startswith(f"exact is {metrics['exact']['tuned']} (")
    assert all({"prompt", "reference", "base", "tuned", "scores"} <= set(json.loads(line)) for line in lines)
