"""`--set PATH=VALUE`, and the name and place of a job that repeats another one."""

import pytest
from finetune_operator.cli.differences import change_lines, differing, whole, written
from finetune_operator.cli.rerun_text import next_name, repeated
from finetune_operator.cli.set_field import changed
from finetune_operator.errors import FinetuneError

from tests.unit.smallest_spec import SMALLEST_SPEC


def test_values_are_read_as_the_field_wants_them():
    """A field that wants text gets 1e-4 as it was typed; numbers, switches and lists are read as YAML; no value removes."""
    before = SMALLEST_SPEC | {"method": "full"}
    after = changed(
        before,
        [
            "training.learningRate=1e-4", "training.epochs=2", "spec.evaluation.baseline=false", "resources.pools=[h100, a100]",
            "runPolicy.budget.maxCostUSD=40", "datasets[0].maxExamples=100", "method=",
        ],
    )  # fmt: skip

    assert {key: after[key] for key in ("training", "evaluation", "resources", "runPolicy")} == {
        "training": {"learningRate": "1e-4", "epochs": 2},
        "evaluation": {"baseline": False},
        "resources": {"pools": ["h100", "a100"]},
        "runPolicy": {"budget": {"maxCostUSD": "40"}},
    }
    assert after["datasets"][0]["maxExamples"] == 100
    assert "method" not in after
    assert "method" in before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("training.lr=1", "spec.training.lr: unknown field: see docs/api.md for the fields"),
        (
            "training.learning_rate=1",
            "spec.training.learning_rate: unknown field: did you mean spec.training.learningRate?",
        ),
        ("training.epochs=many", "spec.training.epochs: input should be a valid integer, not 'many'"),
        ("datasets[3].split=a", "--set datasets[3].split: there is no item 3; the list has 1, counted from 0"),
        ("method.kind=lora", "--set method.kind: method is a value, so it has no field kind"),
        ("model.source=", "spec.model.source: is missing"),
        ("epochs", "--set epochs is not PATH=VALUE, such as training.learningRate=1e-4"),
        ("a b=1", "--set a b=1 is not PATH=VALUE, such as training.learningRate=1e-4"),
        ("training.epochs=[", "spec.training.epochs: input should be a valid integer, not '['"),
    ],
)
def test_a_change_that_is_not_valid_is_refused(change: str, said: str):
    """In the words of the API, with the field that was probably meant."""
    with pytest.raises(FinetuneError) as refused:
        changed(SMALLEST_SPEC | {"method": "lora"}, [change])

    assert str(refused.value) == said


def test_a_rerun_counts_on_and_has_places_of_its_own():
    """qa, qa-2, qa-3; the result of none is overwritten, and a job that was suspended runs."""
    spec = SMALLEST_SPEC | {
        "output": {"destination": "s3://team/qa/adapter"}, "checkpoint": {"destination": "s3://team/kept/qa"}, "suspend": True,
    }  # fmt: skip
    again = repeated(spec, "qa", "qa-2")

    assert [next_name("qa", {"qa"}), next_name("qa-2", {"qa-2", "qa-3"}), next_name("a" * 52, ())] == [
        "qa-2", "qa-4", "a" * 50 + "-2",
    ]  # fmt: skip
    assert (again["output"], again["checkpoint"]) == (
        {"destination": "s3://team/qa/adapter-qa-2"}, {"destination": "s3://team/kept/qa-2"}
    )  # fmt: skip
    assert "suspend" not in again


def test_defaults_are_no_difference():
    """A job in a cluster has every default filled in, a file has none."""
    stored = whole(SMALLEST_SPEC)

    assert len(stored) > len(SMALLEST_SPEC)
    assert differing([whole(stored), whole(SMALLEST_SPEC)]) == []
    assert written(stored) == SMALLEST_SPEC


def test_lists_and_missing_values_are_told():
    """Items by their number; - for what is not set."""
    other = SMALLEST_SPEC | {"lora": {"targetModules": ["q_proj"], "targets": "custom"}}
    other["datasets"] = [*SMALLEST_SPEC["datasets"], {"source": "s3://team/more.jsonl"}]

    assert change_lines(SMALLEST_SPEC, other) == [
        "datasets[1].source: - -> s3://team/more.jsonl",
        'lora.targetModules: - -> ["q_proj"]',
        "lora.targets: - -> custom",
    ]
