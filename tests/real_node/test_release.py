"""The release goes and comes back while a job runs."""

import pytest

from tests.cluster.client import eventually
from tests.real_node.installation import SYSTEM
from tests.real_node.workspace import LONG, Workspace

pytestmark = pytest.mark.real_node


def test_a_running_job_outlives_its_operator_and_is_finished_by_the_next_one(workspace: Workspace):
    """helm uninstall leaves definitions, jobs and Pods; the operator of the next release takes over what it finds.

    What the former one has said, the next one counts and does not say twice.
    """
    installation = workspace.installation
    workspace.submit("waits", suspend=True)
    workspace.submit("outlives", **LONG)
    saved = workspace.saves("outlives")
    (before,) = workspace.pods("outlives")
    installation.uninstall()
    eventually(lambda: not workspace.cluster.get("pods", "-n", SYSTEM)["items"], "no operator is left", 60)
    eventually(lambda: workspace.saved("outlives") > saved, "the trainer goes on", 60)
    installation.install()
    for suspend in (False, True):
        workspace.change("waits", {"suspend": suspend})
        workspace.until(
            "waits", lambda status, paused=suspend: (status["phase"] == "Suspended") == paused, str(suspend)
        )
    said = eventually(lambda: counted(workspace, "waits"), "the repeated sentence is counted", 30)
    status = workspace.finish("outlives")
    (after,) = workspace.pods("outlives")

    assert before["metadata"]["uid"] == after["metadata"]["uid"]
    assert [attempt["outcome"] for attempt in status["attempts"]] == ["Succeeded"]
    assert status["progress"]["step"] == 240
    assert said == {"spec.suspend is true: set it to false to resume": 2}


def counted(workspace: Workspace, job: str) -> dict[str, int]:
    """Return the sentences about a job that were said more than once, and how often."""
    about = f"--field-selector=involvedObject.name={job}"
    events = workspace.cluster.get("events", "-n", workspace.namespace, about)["items"]
    return {event["message"]: event["series"]["count"] for event in events if "series" in event}
