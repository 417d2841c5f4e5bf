"""Every example is planned and compared with its golden file."""

from pathlib import Path

import pytest

from tests.golden.plans import GOLDEN, examples, golden_text


@pytest.mark.parametrize("folder", examples(), ids=lambda folder: folder.name)
def test_example_is_planned_as_before(folder: Path):
    """`make goldens` writes the files; the difference is what a reader of the example sees change."""
    assert golden_text(folder) == (GOLDEN / f"{folder.name}.json").read_text()


def test_there_is_a_golden_file_for_every_example_and_no_other():
    """An example that is renamed takes its golden file along."""
    assert sorted(path.stem for path in GOLDEN.glob("*.json")) == [folder.name for folder in examples()]
    assert len(examples()) >= 7
