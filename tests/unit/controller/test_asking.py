"""Which news of a child asks for a pass at once, and which for one in a moment."""

from typing import Any

import pytest
from finetune_operator.controller.process import Operator
from finetune_operator.controller.settings import OperatorSettings

from tests.unit.controller.scripted import scripted
from tests.unit.controller.test_cluster import raw_job, raw_pod

Asked = tuple[list[str], list[str]]
"""Jobs that are due now, and jobs that are due later."""

NOW, LATER = (["one"], []), ([], ["one"])


def pod_in(phase: str) -> dict[str, Any]:
    """Return the Pod of a job in a phase."""
    return raw_pod() | {"status": {"phase": phase}}


@pytest.mark.parametrize(
    ("event", "phase", "attempts", "asked"),
    [
        ("MODIFIED", "Pending", 0, LATER),
        ("MODIFIED", "Running", 0, LATER),
        ("MODIFIED", "Succeeded", 0, NOW),
        ("DELETED", "Running", 0, NOW),
        ("MODIFIED", "Pending", 1, LATER),
        ("MODIFIED", "Running", 1, NOW),
        ("MODIFIED", "Succeeded", 1, NOW),
        ("DELETED", "Pending", 1, NOW),
    ],
)
async def test_a_pod_on_its_way_waits_a_moment(event: str, phase: str, attempts: int, asked: Asked):
    """It runs, or preflight has ended, a moment later, and one pass sees both. What has happened to a Pod is looked at immediately."""
    async with scripted() as (_, connection):
        operator = Operator(settings=OperatorSettings(), connection=connection)
        begun = [{"number": 0, "startTime": "2026-01-31T12:00:00Z"}] * attempts
        operator.store.put("FineTuneJob", raw_job() | {"status": {"attempts": begun}})
        raw = pod_in(phase)
        operator.heard(
            "Pod", event, raw | {"metadata": raw["metadata"] | {"deletionTimestamp": "2026-01-31T12:00:00Z"}}
        )
        found = list(operator.queue._pending), list(operator.queue._timers)
        await operator.queue.close(0)

    assert found == asked
