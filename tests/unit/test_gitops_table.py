"""The table of docs/guides/gitops.md is the one that the tests on the real Argo CD and Flux hold, cell by cell."""

import re
from pathlib import Path

import pytest

from tests.gitops import table

ROOT = Path(__file__).parents[2]
TESTS = {"argo": "test_argocd.py", "flux": "test_flux.py"}
CELLS = [(tool, key) for key, row in table.ROWS.items() for tool in TESTS if getattr(row, tool) is not None]


def test_the_page_has_the_table():
    """Whole: a sentence changes in both places, or in neither."""
    assert table.markdown() in (ROOT / "docs/guides/gitops.md").read_text()


@pytest.mark.parametrize(("tool", "key"), CELLS)
def test_each_cell_is_seen_by_a_test(tool: str, key: str):
    """The test asserts what the cell says that it has seen."""
    text = (ROOT / "tests/gitops" / TESTS[tool]).read_text()

    assert f'"{key}"' in text
    assert f'expected("{tool}", ' in text


@pytest.mark.parametrize("tool", TESTS)
def test_no_test_sees_what_no_cell_says(tool: str):
    """A row that is removed takes its test along."""
    text = (ROOT / "tests/gitops" / TESTS[tool]).read_text()
    named = re.findall(rf'expected\("{tool}", "([^"]+)"\)', text)

    assert named
    assert [key for key in named if (tool, key) not in CELLS] == []
