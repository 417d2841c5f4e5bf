"""The page of the check on a GPU: what it says without a measurement, and what becomes of records."""

import json

from tests.gpu.predictions import SCENARIOS, loading_gib, memory_of, speed_prediction
from tests.gpu.report import PAGE, WHEELS, against_plain, kept, page, results, verdicts
from tests.gpu.scenarios import LOADED, PLANNED
from tests.gpu.wheels import pins

MACHINE = {
    "part": "machine", "device": "cuda", "gpu": "NVIDIA H100 80GB HBM3", "memoryGiB": 79.1, "cuda": "13.0",
    "versions": {"torch": "2.13.0"},
}  # fmt: skip


def a_planned(name: str, *, off: float = 1.0) -> dict[str, object]:
    """Return what the card would say if the plan were off by a factor."""
    need = memory_of(SCENARIOS[name])
    return {
        "part": "planned", "name": name, "allocatedGiB": need.allocated_gib * off, "cardGiB": need.card_gib * off,
        "tokens": [2048.0] * 4, "tokensPerSecond": 9000.0,
    }  # fmt: skip


def test_the_page_is_made_of_what_was_measured():
    """`python -m tests.gpu.report` writes it again."""
    assert PAGE.read_text() == page(kept(), json.loads(WHEELS.read_text()))


def test_without_a_measurement_the_page_says_so():
    """Nobody should take a table of predictions for a table of measurements."""
    said = page([], [{"name": "trl", "version": "1.16.0", "megabytes": 0.9}])

    assert said.endswith(
        "| trl | 1.16.0 | 0.9 MB |\n| together | | 1 MB |\n\nDeepSpeed's is built from its source; bitsandbytes' is cut to its "
        "library for CUDA 13.\n\n## Results\n\nThe check has not run on a GPU yet, so there are no measurements. Its lines run on the "
        "CPU with every `make test`, on the smallest sizes.\n"
    )


def test_the_wheels_are_those_that_the_image_pins():
    """Another version would be measured than the one that trains."""
    assert {one["name"]: one["version"] for one in json.loads(WHEELS.read_text())} == pins()


def test_every_scenario_has_a_prediction():
    """Twenty runs and three loads, none of which the planner cannot count; their names tell them apart."""
    names = [one.name for one in PLANNED]

    assert (len(names), len(set(names)), len(LOADED)) == (20, 20, 3)
    assert all(0 < memory_of(one).allocated_gib < memory_of(one).request_gib for one in PLANNED)
    assert all(loading_gib(one) > 0 for one in LOADED)


def test_measured_memory_is_held_against_the_plan():
    """A run that takes a third more than planned is over its margin, and the median error says how far off the plans are."""
    right = [MACHINE, a_planned("8B lora"), a_planned("8B qlora")]
    wrong = [MACHINE, a_planned("8B lora", off=1.3), a_planned("8B qlora", off=1.3)]

    assert verdicts(right)[:2] == [
        "* median error of allocated memory at most 5 %: yes (0.0 %)",
        "* no run takes more than its plan with margin: yes (none)",
    ]
    assert verdicts(wrong)[:2] == [
        "* median error of allocated memory at most 5 %: **no** (23.1 %)",
        "* no run takes more than its plan with margin: **no** (8B lora, 8B qlora)",
    ]


def test_speed_is_held_against_the_plan_and_the_plain_script():
    """The row of a run has the planner's tokens per second and the share of the card's peak; ours ran before and after the plain one."""
    name, planned = "8B lora", a_planned("8B lora")
    speed = speed_prediction(SCENARIOS[name], MACHINE["gpu"], [2048.0] * 4)
    assert speed is not None
    need = memory_of(SCENARIOS[name])
    row = (
        f"| 8B lora | {need.allocated_gib:.2f} | {need.allocated_gib:.2f} | {need.card_gib:.2f} | {need.request_gib:.2f} | "
        f"9,000 | {speed.tokens_per_second:,.0f} | {100 * speed.utilisation(9000):.1f} % |"
    )

    assert row in results([MACHINE, planned])
    assert 0.27 < speed.utilisation(9000) < 0.3
    measured = [
        {"part": "speed", "name": variant, "scenario": "s", "variant": variant, "tokensPerSecond": value}
        for variant, value in (("ours", 100.0), ("plain TRL", 100.0), ("ours, again", 96.0))
    ]
    assert against_plain(measured) == 0.98


def test_a_part_that_did_not_end_well_is_named():
    """An error or a deadline must not look like a pass."""
    records = [
        MACHINE,
        {"part": "speed", "ended": "late", "seconds": 90},
        {"part": "loading", "ended": "done", "seconds": 3},
    ]

    assert verdicts(records) == [
        "* median error of allocated memory at most 5 %: not measured",
        "* no run takes more than its plan with margin: not measured",
        "* at least 0.97 of a plain TRL script's speed: not measured",
        "* a resumed run's losses are within 0.01: not measured",
        "* speed: late",
    ]
