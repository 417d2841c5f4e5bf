"""What was logged at each step and measured at each evaluation is beside the result, whole after a preemption, and drawn."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from finetune_trainer.publishing.curves import MOST_POINTS, curves, thinned, ticks

from tests.trainer.running import IN_PROCESS, stopped_at, trained
from tests.trainer.tiny import a_run, changed, conversations, tiny_model

pytestmark = IN_PROCESS


def test_the_history_of_a_run_that_was_cut_is_whole(tmp_path: Path) -> None:
    """Losses of all steps, held-out losses of all evaluations; the card shows them."""
    model, data = tiny_model(tmp_path / "m"), conversations(tmp_path / "d.jsonl", rows=60)
    run = a_run(tmp_path, model=model, data=data, every_steps=2, prompts=())
    stopped_at(run, tmp_path / "cut", step=5)
    outcome = trained(changed(run, attempt=1), tmp_path / "again")

    history = [json.loads(line) for line in (tmp_path / "out/evaluation/history.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in history if "loss" in entry] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [entry["step"] for entry in history if "eval_loss" in entry] == [2, 4, 6]
    picture = ET.fromstring((tmp_path / "out/adapter/curves.svg").read_text())
    shown = [title.text for title in picture.iter("{http://www.w3.org/2000/svg}title")]
    assert outcome.evaluation is not None
    assert outcome.evaluation.base_loss is not None
    assert (shown[0], shown[-1], len(shown)) == (
        f"step 0: {outcome.evaluation.base_loss:.4f}", f"step 8: {outcome.evaluation.tuned_loss:.4f}", 5,
    )  # fmt: skip
    assert "![Loss over the steps](curves.svg)" in (tmp_path / "out/adapter/README.md").read_text()


def test_a_curve_lies_where_its_figures_are() -> None:
    """The lowest loss is at the bottom, the last step at the right."""
    picture = ET.fromstring(curves([(1, 4.0), (10, 2.0)], []))
    (line,) = picture.iter("{http://www.w3.org/2000/svg}polyline")
    (x1, y1), (x2, y2) = (map(float, place.split(",")) for place in line.attrib["points"].split())

    assert x1 < x2 == 704.0
    assert y1 < y2 < 264.0
    assert [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")][:3] == ["2", "2.5", "3"]


def test_nothing_is_drawn_of_nothing() -> None:
    """A run of one step has no curve."""
    assert curves([(1, 2.0)], []) == ""


@pytest.mark.parametrize(
    ("ends", "found"),
    [((0, 100), [0, 20, 40, 60, 80, 100]), ((1.93, 2.41), [2.0, 2.1, 2.2, 2.3, 2.4]), ((0, 7), [0, 2, 4, 6])],
)
def test_ticks_are_round_numbers(ends: tuple[float, float], found: list[float]) -> None:
    """About five of them."""
    assert ticks(*ends) == found


def test_long_runs_are_thinned_by_means() -> None:
    """A million steps make a picture of a few kilobytes."""
    drawn = [(float(step), float(step % 2)) for step in range(1, 100_001)]

    assert len(thinned(drawn)) == MOST_POINTS
    assert {value for _, value in thinned(drawn)} == {0.5}
    assert len(curves(drawn, [])) < 10_000
