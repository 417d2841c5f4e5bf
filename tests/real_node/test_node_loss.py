"""A node dies: the one with the leading operator, and with a job on it."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cluster.client import eventually
from tests.real_node.installation import Installation
from tests.real_node.workspace import LONG, Workspace

pytestmark = pytest.mark.real_node

JOBS = ("one", "two")
LONGER = LONG | {"training": LONG["training"] | {"maxSteps": 500}}
"""The jobs must outlive the change of the leader."""


@dataclass(frozen=True)
class Night:
    """What happened in the night in which a node died."""

    dead: str
    new_leader: str
    saved_before: dict[str, int]
    saved_by_new_leader: dict[str, int]
    """Steps of the newest checkpoints when the other operator had begun to lead."""
    placed: dict[str, list[str]]
    """Nodes of each job."""
    resumed: dict[str, int]
    """Steps from which the last attempts say, in their logs, that they go on."""
    ends: dict[str, dict[str, Any]]
    """Final status of each job."""

    def jobs_on(self, *, dead: bool) -> str:
        """Return the job that was on the dead node, or the other one."""
        (name,) = (job for job, nodes in self.placed.items() if (nodes[0] == self.dead) == dead)
        return name


@pytest.fixture(scope="module")
def night(installation: Installation) -> Iterator[Night]:
    """Kill the leader's node with SIGKILL while a job trains on each node; revive it when all is over."""
    workspace, cluster = Workspace.make(installation), installation.cluster
    for job in JOBS:
        workspace.submit(job, **LONGER)
    saved = {job: workspace.saves(job) for job in JOBS}
    dead = installation.leader_node()
    began = time.monotonic()
    cluster.node(dead).kill()
    try:
        leader = eventually(lambda: other(installation.leader_node(), dead), "the other operator leads", 60)
        print(f"the other operator led {time.monotonic() - began:.0f} s after the node had died")
        then = {job: workspace.saved(job) for job in JOBS}
        ends = {job: workspace.finish(job) for job in JOBS}
        resumed = {job: resumption(workspace.log(f"{job}-{len(end['attempts']) - 1}-0")) for job, end in ends.items()}
        print(f"both jobs had ended {time.monotonic() - began:.0f} s after the node had died")
    finally:
        cluster.bring_up(cluster.node(dead))
    placed = {job: [name for entry in end["attempts"] for name in entry["nodeNames"]] for job, end in ends.items()}
    yield Night(dead, leader, saved, then, placed, resumed, ends)
    workspace.delete_all()


def resumption(log: str) -> int:
    """Return the step of the checkpoint from which a trainer says that it goes on; 0: it says nothing."""
    said = re.search(r"^resuming from attempt-\d+-step-(\d+)$", log, re.MULTILINE)
    return int(said[1]) if said else 0


def other(node: str, dead: str) -> str:
    """Return a node that is not the dead one."""
    return node if node != dead else ""


def test_the_other_operator_leads_and_the_job_on_its_node_goes_on(night: Night):
    """A job's Pods do not need the operator to compute; one attempt is enough."""
    job = night.jobs_on(dead=False)

    assert {night.dead, night.new_leader} == {"real-0", "real-1"}
    assert night.saved_by_new_leader[job] > night.saved_before[job]
    assert [attempt["outcome"] for attempt in night.ends[job]["attempts"]] == ["Succeeded"]


def test_a_job_on_a_dead_node_goes_on_elsewhere_and_loses_nothing_that_was_saved(night: Night):
    """Nobody can say that the Pod has ended; it is given up, and the next attempt starts from the store."""
    job = night.jobs_on(dead=True)
    first, second = night.ends[job]["attempts"]

    assert (first["outcome"], second["outcome"]) == ("NodeLost", "Succeeded")
    assert night.placed[job] == [night.dead, night.new_leader]
    assert night.resumed[job] == second["firstStep"] >= night.saved_before[job] > 0
    assert night.ends[job]["progress"]["step"] == LONGER["training"]["maxSteps"]
