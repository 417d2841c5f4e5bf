"""Which other job keeps its checkpoints where a job wants to, seen in the jobs that the operator knows."""

from typing import Any

import pytest
from finetune_operator.controller.neighbours import at_same_checkpoints

SHARED = "s3://team-a/checkpoints"
BEGUN = {"phase": "Training", "attempts": [{"number": 0}]}


def a_job(name: str, *, hour: int = 8, namespace: str = "team-a", status: Any = None, **spec: Any) -> dict[str, Any]:
    """Return a job as the API server sends it, with its checkpoints at the shared place."""
    output = {"destination": f"s3://team-a/{name}"}
    created = f"2026-01-31T{hour:02}:00:00Z"
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": name, "creationTimestamp": created},
        "spec": {"output": output, "checkpoint": {"destination": SHARED}, **spec},
        "status": status or {},
    }


def test_of_two_jobs_the_later_one_is_told():
    """Whichever of the two is asked about."""
    older, later = a_job("older", hour=8), a_job("later", hour=9)

    assert (at_same_checkpoints(later, [older]), at_same_checkpoints(older, [later])) == ("older", "")


def test_of_two_jobs_of_one_second_one_is_told():
    """And not both."""
    one, two = a_job("one"), a_job("two")

    assert (at_same_checkpoints(two, [one]), at_same_checkpoints(one, [two])) == ("one", "")


def test_a_job_that_has_begun_has_the_place():
    """Its checkpoints are there, however old the other one is."""
    older, begun = a_job("older", hour=8), a_job("begun", hour=9, status=BEGUN)

    assert at_same_checkpoints(older, [begun]) == "begun"


ALONE = [
    ("another place", a_job("other", checkpoint={"destination": f"{SHARED}/other"})),
    ("it has ended", a_job("other", status=BEGUN | {"phase": "Succeeded"})),
    ("it has failed", a_job("other", status={"phase": "Failed"})),
    ("only a plan", a_job("other", planOnly=True)),
    ("another Secret", a_job("other", checkpoint={"destination": SHARED, "credentials": {"secretName": "theirs"}})),
]


@pytest.mark.parametrize(("kind", "other"), ALONE, ids=[kind for kind, _ in ALONE])
def test_other_jobs_are_none_of_its_business(kind: str, other: dict[str, Any]):
    """Nothing of theirs is in danger, or nobody can tell."""
    assert at_same_checkpoints(a_job("mine", hour=9), [other]) == ""


def test_a_job_that_is_being_deleted_makes_room():
    """It is deleted and applied again."""
    leaving = a_job("mine", status=BEGUN)
    leaving["metadata"]["deletionTimestamp"] = "2026-01-31T09:00:00Z"

    assert at_same_checkpoints(a_job("mine", hour=9), [leaving]) == ""


def test_a_job_of_another_namespace_does_not_count():
    """Whether a claim, a bucket with a Secret or one without: the trainer finds out who is there."""
    claim = {"checkpoint": {"destination": "pvc://data/checkpoints"}}
    secret = {"checkpoint": {"destination": SHARED, "credentials": {"secretName": "s3"}}}

    def neighbour(namespace: str, **spec: Any) -> str:
        return at_same_checkpoints(a_job("mine", hour=9, **spec), [a_job("other", namespace=namespace, **spec)])

    assert [neighbour("team-a", **spec) for spec in (claim, secret, {})] == ["other"] * 3
    assert [neighbour("team-b", **spec) for spec in (claim, secret, {})] == [""] * 3


def test_the_place_beside_an_output_counts_too():
    """Named by one job and left out by the other, whose output it is; the latter is for preflight to refuse."""
    beside = a_job("beside", checkpoint={})
    named = a_job("named", hour=9, checkpoint={"destination": "s3://team-a/beside/.checkpoints/"})

    assert (at_same_checkpoints(named, [beside]), at_same_checkpoints(beside, [named])) == ("beside", "")
