"""Which jobs hold what a quota refuses another one."""

from typing import Any

import pytest
from finetune_operator.controller.refusals import held_by

EXCEEDED = (
    'pods "b-0-0" is forbidden: exceeded quota: team-a, requested: requests.nvidia.com/gpu=8, used: '
    "requests.nvidia.com/gpu=4, limited: requests.nvidia.com/gpu=8"
)


def a_pod(job: str, gpus: int) -> dict[str, Any]:
    limits = {"nvidia.com/gpu": str(gpus)} if gpus else {"cpu": "4"}
    containers = [{"name": "trainer", "resources": {"limits": limits}}]
    return {"metadata": {"labels": {"finetune.dev/job-name": job}}, "spec": {"containers": containers}}


@pytest.mark.parametrize(
    ("pods", "said"),
    [
        ([a_pod("one", 1)], "job one (1 GPU)"),
        ([a_pod("small", 1), a_pod("gang", 8), a_pod("gang", 8), a_pod("checked", 0)], "job gang (16 GPUs), job small (1 GPU)"),
        ([a_pod(f"job-{number}", 1) for number in range(7)], ", ".join([f"job job-{n} (1 GPU)" for n in range(5)]) + ", 2 more"),
        ([], ""),
    ],
)  # fmt: skip
def test_the_jobs_that_hold_the_gpus_are_named(pods: list[dict[str, Any]], said: str):
    """Most first, five at most; a preflight Pod holds none."""
    assert held_by(EXCEEDED, pods) == said


def test_gpus_among_several_resources_are_found():
    """The API server lists what was requested, separated by commas."""
    words = EXCEEDED.replace("requested: ", "requested: limits.memory=64Gi,")

    assert held_by(words, [a_pod("one", 8)]) == "job one (8 GPUs)"


def test_nobody_is_named_where_it_is_not_about_gpus():
    """A quota of Pods or memory may be used by anything in the namespace."""
    assert held_by("exceeded quota: team-a, requested: pods=1, used: pods=5, limited: pods=5", [a_pod("one", 8)]) == ""
