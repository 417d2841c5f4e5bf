"""What Events say about a Pod that waits: read once it has waited for two minutes, in the background."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from finetune_operator.controller.api import Api
from finetune_operator.controller.warnings import Said, Warnings, what_is_said
from finetune_operator.lifecycle.observation import SeenPod

from tests.unit.controller.scripted import scripted, until

EVENTS = "/apis/events.k8s.io/v1/namespaces/team/events"


def an_event(reason: str, note: str, at: str, **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"creationTimestamp": at},
        "type": "Warning",
        "reason": reason,
        "note": note,
        "deprecatedLastTimestamp": at,
        **more,
    }


def a_pod(**parts: Any) -> SeenPod:
    old = datetime.now(UTC) - timedelta(seconds=130)
    values: dict[str, Any] = {"name": "j-0-0", "uid": "pod", "role": "trainer", "owner_uid": "job", "created_at": old}
    return SeenPod(**values | parts)


MOUNT = an_event("FailedMount", "MountVolume.SetUp failed", "2026-01-31T12:00:05Z")
OLDER = an_event("FailedScheduling", "no node", "2026-01-31T12:00:01Z")
REPEATED = an_event(
    "FailedAttachVolume", "Multi-Attach error", "2026-01-31T12:00:00Z",
    series={"lastObservedTime": "2026-01-31T12:00:09.000000Z"},
)  # fmt: skip


NO_SCALE_UP = an_event(
    "NotTriggerScaleUp",
    "pod didn't trigger scale-up: 1 max node group size reached",
    "2026-01-31T12:00:02Z",
    type="Normal",
)
KARPENTER = an_event(
    "FailedScheduling", 'Failed to schedule pod, incompatible with nodepool "gpu"', "2026-01-31T12:00:07Z"
)


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([], Said()),
        ([OLDER, MOUNT], Said(warning="FailedMount: MountVolume.SetUp failed")),
        ([MOUNT, OLDER], Said(warning="FailedMount: MountVolume.SetUp failed")),
        ([REPEATED, MOUNT], Said(warning="FailedAttachVolume: Multi-Attach error")),
        (
            [NO_SCALE_UP, OLDER],
            Said(
                warning="FailedScheduling: no node",
                autoscaler="pod didn't trigger scale-up: 1 max node group size reached",
            ),
        ),
        (
            [KARPENTER, NO_SCALE_UP],
            Said(
                warning='FailedScheduling: Failed to schedule pod, incompatible with nodepool "gpu"',
                autoscaler='Failed to schedule pod, incompatible with nodepool "gpu"',
            ),
        ),
        ([an_event("Pulling", "Pulling image", "2026-01-31T12:00:09Z", type="Normal")], Said()),
        (
            [an_event("FailedMount", "no\x1b[31m such\nvolume", "2026-01-31T12:00:09Z")],
            Said(warning="FailedMount: no\\x1b[31m such\nvolume"),
        ),
    ],
)
def test_the_newest_counts(events: list[dict[str, Any]], said: Said):
    """By when it was last seen, not by when it was first; what an autoscaler says is kept apart from Warnings."""
    assert what_is_said(events) == said


async def test_a_pod_that_waits_is_explained_after_two_minutes():
    """The first look asks, the answer asks for a pass, the next look knows."""
    asked_for: list[str] = []
    async with scripted(replies={f"GET {EVENTS}": (200, {"items": [MOUNT]})}) as (server, connection):
        warnings = Warnings(Api(connection=connection), asked_for.append)
        young, running = a_pod(created_at=datetime.now(UTC)), a_pod(phase="Running")
        before = [warnings.about("team", "job", pod) for pod in (young, running, a_pod())]
        await until(lambda: asked_for)

        assert before == [Said(), Said(), Said()]
        assert warnings.about("team", "job", a_pod()) == Said(warning="FailedMount: MountVolume.SetUp failed")
        assert (asked_for, len(server.asked)) == (["job"], 1)


async def test_an_operator_that_may_not_read_events_goes_on():
    """The Pod waits as before, unexplained."""
    async with scripted(replies={f"GET {EVENTS}": (403, {"message": "forbidden"})}) as (server, connection):
        warnings = Warnings(Api(connection=connection), lambda _: pytest.fail("no news"))
        warnings.about("team", "job", a_pod())
        await until(lambda: server.asked and not warnings._tasks)

        assert warnings.about("team", "job", a_pod()) == Said()


@pytest.mark.parametrize(
    ("seconds", "parts", "words"),
    [
        (125, {}, "node n has not begun with it for 2 minutes, as if its kubelet did not answer"),
        (125, {"taken_in": True}, ""),
        (5, {}, ""),
        (125, {"scheduled_at": None, "node_name": ""}, ""),
        (
            125,
            {"scheduled_at": None, "node_name": "", "ignored_by": "volcano"},
            "scheduler volcano has not looked at it: check that a scheduler of this name is installed and runs",
        ),
    ],
)
async def test_who_does_not_begin_with_a_pod_is_named(seconds: int, parts: dict[str, Any], words: str):
    """A node that died as the Pod was bound to it: no kubelet writes a status. A scheduler that is not there writes no condition."""
    bound = {"node_name": "n", "scheduled_at": datetime.now(UTC) - timedelta(seconds=seconds)}
    async with scripted(replies={f"GET {EVENTS}": (200, {"items": []})}) as (_, connection):
        warnings = Warnings(Api(connection=connection), lambda _: pytest.fail("no news"))

        assert warnings.about("team", "job", a_pod(**bound | parts)) == Said(warning=words)
        await until(lambda: not warnings._tasks)
