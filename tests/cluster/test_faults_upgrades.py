"""A new operator starts in a world that another release has left: it finds nothing to do, and goes on with it."""

from pathlib import Path

import pytest

from tests.cluster.stories import Open, Stage
from tests.golden.worlds import WORLDS, restore, revived

pytestmark = pytest.mark.cluster

FOUND = sorted(WORLDS.glob("*/*.json"))
GOES_ON = {"running": ("old-trains", "old-trains-0-0"), "begun": ("old-examined", "old-examined-preflight-1")}
"""World -> a job in it and its Pod, which is taken away: the new operator sees to the next one."""


@pytest.mark.parametrize("world", FOUND, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_an_upgrade_writes_nothing_and_goes_on(curtain: Open, world: Path):
    """Not one write until something happens; then the job that it happened to goes on to its end."""
    stage = curtain()
    objects = revived(world.read_text(), stage.namespace)
    stage.standin.held |= {found["metadata"]["name"] for found in objects if found["kind"] == "Pod"}
    try:
        restore(stage.api, objects)
        before = stage.ending()
        stage.operator.start()
        stage.settle()
        assert (stage.proxy.writes, stage.ending()) == ([], before)
    finally:
        stage.standin.held.clear()
    if world.stem in GOES_ON:
        job, pod = GOES_ON[world.stem]
        stage.api.delete(f"{stage.ledger.paths[0]}/{pod}", gracePeriodSeconds=0)
        Stage(stage.api, stage.namespace, job).reaches("Succeeded")


def test_three_worlds_were_found():
    """Of each release; a world that is gone must fail the suite, not empty it."""
    releases = {path.parent for path in FOUND}

    assert releases
    assert {len(list(release.glob("*.json"))) for release in releases} == {3}
