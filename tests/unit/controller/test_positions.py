"""A job's place in Kueue's queue: asked for once for all jobs of a queue, and absent where nobody tells."""

import pytest
from finetune_operator.controller.api import Api
from finetune_operator.controller.positions import Positions

from tests.unit.controller.scripted import scripted

PENDING = "GET /apis/visibility.kueue.x-k8s.io/v1beta2/namespaces/team/localqueues/train/pendingworkloads"


def waits(name: str, place: int) -> dict[str, object]:
    return {"metadata": {"name": name}, "positionInClusterQueue": place, "positionInLocalQueue": 0}


async def test_places_are_counted_from_one_and_asked_for_once():
    """Kueue counts from 0; a Workload that is not listed has none."""
    replies = {PENDING: (200, {"items": [waits("a-0", 0), waits("b-0", 4)]})}
    async with scripted(replies=replies) as (script, connection):
        positions = Positions(Api(connection=connection))
        found = [await positions.of("team", "train", name) for name in ("a-0", "b-0", "c-0")]

    assert found == [1, 5, 0]
    assert script.asked == [(PENDING, None)]


@pytest.mark.parametrize("status", [403, 404, 503])
async def test_without_the_api_there_is_no_place_and_no_failure(status: int):
    """Not installed, forbidden or down: it is not asked again for each job."""
    async with scripted(replies={PENDING: (status, {"message": "no"})}) as (script, connection):
        positions = Positions(Api(connection=connection))
        found = [await positions.of("team", "train", name) for name in ("a-0", "b-0")]

    assert found == [0, 0]
    assert len(script.asked) == 1
