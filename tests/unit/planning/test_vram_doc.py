"""docs/vram-model.md shows what the code computes today."""

from pathlib import Path

from tests.bench.bench_vram import markdown, other_markdown
from tests.bench.vram_seeds import table

DOC = (Path(__file__).parents[3] / "docs" / "vram-model.md").read_text().splitlines()


def test_the_scores_in_the_document_are_those_of_the_model():
    """`python tests/bench/bench_vram.py --markdown` prints the tables to paste."""
    missing = [line for line in (*markdown(), *other_markdown()) if line not in DOC]

    assert missing == []


def test_the_claims_in_the_document_are_answered_by_the_model():
    """`python tests/bench/vram_seeds.py` prints the table to paste."""
    missing = [line for line in table() if line not in DOC]

    assert missing == []
