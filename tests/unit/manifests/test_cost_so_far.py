"""What the Pods of an attempt are told about the money of a job."""

from typing import Any

import pytest
from finetune_contract import CostSoFar
from finetune_operator.api.status import AttemptStatus, FineTuneJob, ReplannedStatus
from finetune_operator.manifests.children import children
from finetune_operator.manifests.digests import spec_digest
from finetune_operator.manifests.run_config import run_config

from tests.unit.lifecycle.lifecycle_builders import a_job, a_pool, pinned_status

STARTED = "2026-01-31T12:00:00Z"


def third_attempt(price: str = "3.60", **status: Any) -> FineTuneJob:
    """Return a job whose attempts held 600 and 1,200 GPU-seconds, and which runs for the third time."""
    job = a_job()
    held = {0: 600, 1: 1200, 2: 77}
    attempts = [AttemptStatus(number=one, start_time=STARTED, gpu_seconds=seconds) for one, seconds in held.items()]
    pinned = pinned_status(job, a_pool(pricePerGPUHourUSD=price))
    return job.model_copy(update={"status": pinned.model_copy(update={"attempts": attempts, **status})})


@pytest.mark.parametrize(
    ("job", "told"),
    [
        (third_attempt(), CostSoFar(gpu_seconds=1800, cost_usd="1.80", price_per_gpu_hour_usd="3.60")),
        (
            third_attempt(archived_gpu_seconds=3600),
            CostSoFar(gpu_seconds=5400, cost_usd="5.40", price_per_gpu_hour_usd="3.60"),
        ),
        (
            third_attempt(replanned=ReplannedStatus(gpu_seconds=600, cost_usd="0.20")),
            CostSoFar(gpu_seconds=1800, cost_usd="1.40", price_per_gpu_hour_usd="3.60"),
        ),
        (third_attempt("0.00"), CostSoFar(gpu_seconds=1800, cost_usd="0.00")),
    ],
    ids=["three attempts", "attempts that are no longer listed", "a plan with another price", "a pool without a price"],
)
def test_an_attempt_is_told_what_the_earlier_ones_cost(job: FineTuneJob, told: CostSoFar):
    """Its own GPU-seconds are none of them."""
    assert run_config(job, job.status, 2).cost_so_far == told


def test_a_pod_that_is_made_later_is_told_the_same():
    """The attempt's own GPU-seconds grow meanwhile."""
    job = third_attempt()
    earlier, running = (job.status.attempts or [])[:-1], (job.status.attempts or [])[-1]
    later = job.status.model_copy(update={"attempts": [*earlier, running.model_copy(update={"gpu_seconds": 9999})]})

    assert children(job, later, 2) == children(job, job.status, 2)


def test_money_is_no_part_of_what_a_run_is():
    """Attempts of one run have the same digest, whatever the earlier ones cost."""
    job = third_attempt()
    first, third = run_config(job, job.status, 0), run_config(job, job.status, 2)

    assert first.cost_so_far != third.cost_so_far
    assert (first.run_digest, spec_digest(job.spec)) == (third.run_digest, spec_digest(a_job().spec))
