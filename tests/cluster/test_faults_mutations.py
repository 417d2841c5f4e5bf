"""Valid jobs with one thing changed: refused in words, or run, or told why not. Never a crash, never a job without an answer."""

import pytest
from finetune_operator.api.reasons import WaitingReason

from tests.cluster.client import ApiError, Raw, eventually
from tests.cluster.mutations import drawn
from tests.cluster.stories import SECONDS
from tests.cluster.theatre import WHOLE, Open, told

pytestmark = pytest.mark.cluster

SEED = 20260131
NUMBER = 300 if WHOLE else 20
WAITS = {str(reason) for reason in WaitingReason}


def answered(job: Raw | None) -> bool:
    """Tell whether a job has an answer: it has ended, is paused, waits and says for what, or is gone as it wished."""
    if job is None:
        return True
    conditions = {each["type"]: each for each in job.get("status", {}).get("conditions", [])}
    reconciling, end = conditions.get("Reconciling"), conditions.get("Succeeded")
    if reconciling is None:  # nothing is on its way
        return end is not None and end["status"] != "Unknown"
    return reconciling["status"] == "False" or (reconciling["reason"] in WAITS and bool(reconciling["message"]))


def test_a_mutated_job_is_refused_in_words_or_handled(curtain: Open):
    """Each of the mutations, side by side."""
    stage = curtain()
    stage.operator.start()
    accepted, wordless = {}, []
    for mutation, job in drawn(NUMBER, SEED):
        try:
            stage.api.create(f"{stage.ledger.paths[2]}?fieldValidation=Strict", job)
            accepted[job["metadata"]["name"]] = str(mutation)
        except ApiError as error:
            if error.status not in (400, 422) or len(error.message) < 20:
                wordless.append((str(mutation), str(error)))

    def unanswered() -> dict[str, str]:
        found = {job["metadata"]["name"]: job for job in stage.api.items(stage.ledger.paths[2])}
        return {name: f"{accepted[name]}: {told(found[name])}" for name in accepted if not answered(found.get(name))}

    try:
        eventually(lambda: not unanswered(), "all jobs have an answer", 2 * SECONDS)
    finally:
        print(f"{len(accepted)} of {NUMBER} accepted; without an answer: {unanswered()}")

    assert wordless == []
    assert stage.operator.starts == 1
    assert "Traceback" not in stage.operator.text
    assert [line for line in stage.operator.text.splitlines() if "reconciliation failed" in line] == []
    assert 0 < len(accepted) < NUMBER
