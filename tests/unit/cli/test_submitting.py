"""What `finetune resume` says about a job that a limit has suspended."""

import pytest
from finetune_operator.api.status import FineTuneJob
from finetune_operator.cli.submitting import limited_words

from tests.unit.smallest_spec import SMALLEST_SPEC

BORN = "2026-11-23T10:00:00Z"


def suspended(reason: str, message: str) -> FineTuneJob:
    """Return a job that a limit has suspended."""
    found = {"type": "Suspended", "status": "True", "reason": reason, "message": message}
    return FineTuneJob.model_validate(
        {
            "metadata": {"name": "bot", "namespace": "team-a", "uid": "u", "generation": 1, "creationTimestamp": BORN},
            "spec": SMALLEST_SPEC,
            "status": {
                "phase": "Suspended",
                "conditions": [{**found, "lastTransitionTime": BORN, "observedGeneration": 1}],
            },
        }
    )


@pytest.mark.parametrize(
    ("reason", "message", "remedy"),
    [
        ("BudgetExceeded", "spent $5.00 of 5.00",
         "Raise the limit: finetune resume bot -n team-a --set runPolicy.budget.maxCostUSD=AMOUNT"),
        ("DeadlineExceeded", "ran for 60 s of 60 s",
         "Raise the limit: finetune resume bot -n team-a --set runPolicy.activeDeadlineSeconds=SECONDS"),
        ("PolicyLimit", "the namespace has spent $100.02 this month", "The job continues by itself when this changes"),
    ],
)  # fmt: skip
def test_the_remedy_is_that_of_the_limit_that_was_reached(reason: str, message: str, remedy: str):
    """A user cannot raise a limit of the platform team's policy with `finetune resume`, so that is not advised."""
    said = limited_words(suspended(reason, message), " -n team-a")

    assert said == f"team-a/bot was not suspended by spec.suspend. Suspended: {reason}: {message}. {remedy}"
