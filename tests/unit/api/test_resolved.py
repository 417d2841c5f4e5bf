"""The resolved spec is whole, and what operators have recorded so far is still read."""

import json
from pathlib import Path
from typing import Any

import pytest
from finetune_operator.api.resolved import ResolvedSpec
from pydantic import ValidationError

PLANS = Path(__file__).parents[2] / "golden" / "plans"
IDLE_ADAPTER = {
    "rank": 16, "alpha": 32, "dropout": "0.0", "targets": "all-linear", "experts": False, "variant": "standard",
}  # fmt: skip


def recorded(name: str = "02-lora-s3") -> dict[str, Any]:
    """Return status.resolved as an operator writes it."""
    found: dict[str, Any] = json.loads((PLANS / f"{name}.json").read_text())["resolved"]
    return found


def test_what_is_written_is_read_back():
    """The wire form of status.resolved is the spec's own."""
    assert ResolvedSpec.model_validate(recorded()).model_dump(exclude_none=True) == recorded()


def test_an_adapter_that_was_recorded_for_method_full_is_not_trained():
    """Older operators pinned the defaults of lora with every job."""
    full = recorded("04-full-fine-tune")

    assert "lora" not in full
    assert ResolvedSpec.model_validate({**full, "lora": IDLE_ADAPTER}) == ResolvedSpec.model_validate(full)


@pytest.mark.parametrize(
    "field",
    ["epochs", "learningRate", "scheduler", "weightDecay", "globalBatchSize", "sequenceLength", "packing", "precision",
     "optimizer", "neftuneAlpha"],
)  # fmt: skip
def test_nothing_that_has_a_default_is_absent(field: str):
    """Who reads it fills in nothing."""
    found = recorded()
    del found["training"][field]

    with pytest.raises(ValidationError, match=rf"training\.{field}\s+Field required"):
        ResolvedSpec.model_validate(found)


@pytest.mark.parametrize("field", ["packing", "precision", "optimizer"])
def test_nothing_that_is_planned_is_auto(field: str):
    """The planner has decided."""
    found = recorded()
    found["training"][field] = "auto"

    with pytest.raises(ValidationError, match=rf"training\.{field}\s+Input should be"):
        ResolvedSpec.model_validate(found)
