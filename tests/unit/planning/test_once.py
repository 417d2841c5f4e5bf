"""The planner is asked the same question once, and answers what it would have answered."""

from typing import Any

import pytest
from finetune_operator.api.pools import GPUPool
from finetune_operator.errors import DoesNotFit
from finetune_operator.planning import once, planner
from finetune_operator.planning.models.architecture import architecture

from tests.unit.planning.planning_builders import LLAMA_8B, LLAMA_405B, a_pool, a_preflight, a_spec

SHAPE = architecture(LLAMA_8B)
PLACES = (
    {"output": {"destination": "s3://team/one"}},
    {"output": {"destination": "s3://team/two", "credentials": {"secretName": "keys"}}},
    {"output": {"destination": "s3://team/three"}, "checkpoint": {"destination": "gs://team/three-checkpoints"}},
)


def asked(found: dict[str, Any] | None = None, pool: GPUPool | None = None, **spec: Any) -> planner.PlannedRun:
    """Return the remembered answer, after comparing it with the planner's own."""
    question: dict[str, Any] = {
        "architecture": SHAPE,
        "preflight": a_preflight(model_bytes=16_060_522_496, **(found or {})),
        "pools": (pool or a_pool(),),
        "image": "trainer:1",
    }
    run = once.planned(a_spec(**spec), **question)
    fresh = planner.plan(a_spec(**spec), **question)
    assert (run.plan, run.resolved) == (fresh.plan, fresh.resolved)
    return run


def questions() -> int:
    """Return how many questions the planner was asked."""
    return once._answer.cache_info().misses


def test_jobs_that_differ_in_their_places_are_planned_once():
    """Each is resolved with its own output and checkpoints; whose preflight it was and where it put its files play no part."""
    once._answer.cache_clear()

    runs = [
        asked({"prepared_uri": f"s3://team/{n}", "spec_digest": f"sha256:{n}", "generation": n}, **places)
        for n, places in enumerate(PLACES)
    ]

    assert questions() == 1
    assert [(run.resolved.output.destination, run.resolved.checkpoint.destination) for run in runs] == [
        ("s3://team/one", "s3://team/one/.checkpoints"),
        ("s3://team/two", "s3://team/two/.checkpoints"),
        ("s3://team/three", "gs://team/three-checkpoints"),
    ]


@pytest.mark.parametrize(
    "destination",
    [
        "file:///home/me/out", "pvc://claim/out", "s3://bucket/out", "gs://bucket/out", "az://account/container/out",
        "oci://registry.example.com/team/out:1", "hf://team/out",
    ],
)  # fmt: skip
def test_every_destination_is_planned_as_the_planner_would(destination: str):
    """`asked` compares the answers."""
    run = asked(output={"destination": destination}, checkpoint={"destination": "s3://bucket/checkpoints"})

    assert run.resolved.output.destination == destination


def test_what_a_plan_depends_on_is_asked_anew():
    """The spec, what preflight found, the pool and its price, whether the result is read back, and whether checkpoints are on a volume."""
    once._answer.cache_clear()
    asked()
    asked(training={"epochs": 3})
    asked({"tokens": 12_000_000})
    asked(pool=a_pool(pricePerGPUHourUSD="9.00"))
    asked(output={"destination": "hf://team/four"}, checkpoint={"destination": "s3://team/four"})
    asked(checkpoint={"destination": "pvc://claim/five"})

    assert questions() == 6


def test_a_refusal_is_remembered_too():
    """A job that does not fit asks again with every change of a pool's status."""
    once._answer.cache_clear()
    question: dict[str, Any] = {"architecture": architecture(LLAMA_405B), "pools": (a_pool(),), "image": "trainer:1"}
    said = []
    for _ in range(2):
        with pytest.raises(DoesNotFit) as refused:
            once.planned(a_spec(method="full"), preflight=a_preflight(model_bytes=811_706_720_256), **question)
        said.append(str(refused.value))

    assert (questions(), said[0]) == (1, said[1])
