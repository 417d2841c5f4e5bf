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
    ("event", "phase", "asked"),
    [
        ("MODIFIED", "Pending", LATER),
        ("MODIFIED", "Running", NOW),
        ("MODIFIED", "Succeeded", NOW),
        ("DELETED", "Pending", NOW),
    ],
)
async def test_a_pod_on_its_way_to_its_node_waits_a_moment(event: str, phase: str, asked: Asked):
    """It runs a moment later, and one pass sees both. What has happened to a Pod is looked at immediately."""
    async with scripted() as (_, connection):
        operator = Operator(settings=OperatorSettings(), connection=connection)
        operator.store.put("FineTuneJob", raw_job())
        raw = pod_in(phase)
        operator.heard(
            "Pod", event, raw | {"metadata": raw["metadata"] | {"deletionTimestamp": "2026-01-31T12:00:00Z"}}
        )
        found = list(operator.queue._pending), list(operator.queue._timers)
        await operator.queue.close(0)

    assert found == asked
