"""docs/vram-model.md shows what the code computes today."""

from pathlib import Path

from finetune_operator.cli.ui import time_claims
from finetune_operator.cli.ui.memory_claims import table

from tests.bench import generations
from tests.bench.bench_vram import markdown, other_markdown

DOC = (Path(__file__).parents[3] / "docs" / "vram-model.md").read_text().splitlines()


def test_the_scores_in_the_document_are_those_of_the_model():
    """`python tests/bench/bench_vram.py --markdown` prints the tables to paste."""
    missing = [line for line in (*markdown(), *other_markdown()) if line not in DOC]

    assert missing == []


def test_the_claims_in_the_document_are_answered_by_the_model():
    """`python -m finetune_operator.cli.ui.memory_claims` prints the table to paste."""
    missing = [line for line in table() if line not in DOC]

    assert missing == []


def test_the_claims_about_hours_and_dollars_are_answered_by_the_planner():
    """`python -m finetune_operator.cli.ui.time_claims` prints the table to paste."""
    missing = [line for line in time_claims.table() if line not in DOC]

    assert missing == []


def test_a_claim_is_held_against_its_own_speed():
    """22.5 million tokens at 3,000 to 5,000 tokens/s are 1.2 to 2.1 GPU-hours, whatever the claim says beside."""
    lora, qlora = time_claims.CLAIMS[0], time_claims.CLAIMS[1]

    assert (lora.job.tokens, time_claims.itself(lora)) == (22_500_000, "1.2 to 2.1 GPU-hours")
    assert time_claims.itself(qlora) == "2.1 to 3.1 GPU-hours"


def test_the_errors_by_generation_in_the_document_are_those_of_today():
    """`python -m tests.bench.generations` prints the table to paste, into docs/planning.md."""
    page = (Path(__file__).parents[3] / "docs" / "planning.md").read_text().splitlines()

    assert [line for line in generations.table() if line not in page] == []


def test_every_card_of_the_readings_has_a_generation():
    """A card whose name nobody knows would vanish among those that are not said."""
    assert [generations.generation(gpu) for gpu in ("H100 80GB SXM", "NVIDIA A100-SXM4-80GB", "RTX 3090 x2", None)] == [
        "H100, H200, B200", "A100", "Ampere and Ada cards (RTX, A10G, A6000, L40S)", "not said",
    ]  # fmt: skip
    assert "not said" not in generations.speed_errors()
