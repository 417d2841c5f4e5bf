"""What a result says about the GPU-hours and dollars behind it: the same figures on the card and in the manifest."""

from pathlib import Path
from typing import Any

import pytest
from finetune_contract import Artifact, CombineConfig, CostSoFar
from finetune_trainer.publishing import artifacts
from finetune_trainer.publishing.published import Published
from finetune_trainer.publishing.spent import spent
from finetune_trainer.runtime.speed import Speed

from tests.trainer.tiny import a_run

LEFT_OUT = (
    "; the start of this attempt's Pods and publishing are not counted; the job's `status.cost` has the final figure"
)
UNKNOWN = Speed(tokens_per_second=None, model_flop_utilisation=None, padding_share=None)
FIRST = CostSoFar(gpu_seconds=0, cost_usd="0.00", price_per_gpu_hour_usd="3.60")
RETRIED = CostSoFar(gpu_seconds=1800, cost_usd="1.80", price_per_gpu_hour_usd="3.60")
FREE = CostSoFar(gpu_seconds=1800, cost_usd="0.00")
MOVED = CostSoFar(gpu_seconds=1800, cost_usd="1.00", price_per_gpu_hour_usd="3.60")
MOVED_TO_FREE = CostSoFar(gpu_seconds=1800, cost_usd="1.00")


def told(folder: Path, so_far: CostSoFar | None, *, device: str, **changes: Any) -> tuple[list[str], Any]:
    """Return the card's rows about spending, and the manifest's part, of two GPUs held for an hour."""
    run = a_run(folder, model=Path("/m"), data=Path("/d"), gpus_per_replica=2, cost_so_far=so_far, **changes)
    published = Published(
        evaluation=None, computation="float32", steps=8, final_loss=2.0, training_seconds=3.0, speed=UNKNOWN,
        spent=spent(run, 3600.0, device),
    )  # fmt: skip
    artifacts.write_card(folder, run, published)
    rows = [line for line in (folder / "README.md").read_text().splitlines() if line.startswith("| spent")]
    artifact = Artifact(kind="adapter", uri="", digest="", size_bytes=0, base_model="", base_revision="")
    return rows, artifacts.manifest(run, artifact, {}, published)["spent"]


@pytest.mark.parametrize(
    ("so_far", "words"),
    [
        (FIRST, "2.00 GPU-hours, 7.20 USD (this attempt at 3.60 USD per GPU-hour)"),
        (RETRIED, "2.50 GPU-hours (2.00 in this attempt, 0.50 in earlier ones), 9.00 USD (this attempt at 3.60 USD per GPU-hour)"),
        (FREE, "2.50 GPU-hours (2.00 in this attempt, 0.50 in earlier ones)"),
        (MOVED, "2.50 GPU-hours (2.00 in this attempt, 0.50 in earlier ones), 8.20 USD (this attempt at 3.60 USD per GPU-hour)"),
        (MOVED_TO_FREE, "2.50 GPU-hours (2.00 in this attempt, 0.50 in earlier ones), 1.00 USD (all in earlier attempts: the pool "
         "of this one has no price)"),
    ],
    ids=["first attempt", "retried", "no price", "from a cheaper pool", "from a pool with a price"],
)  # fmt: skip
def test_the_card_says_what_was_spent_before_publishing(tmp_path: Path, so_far: CostSoFar, words: str) -> None:
    """Two GPUs for an hour, after earlier attempts that each had a price of their own."""
    rows, _ = told(tmp_path, so_far, device="cuda")

    assert rows == [f"| spent before publishing | {words}{LEFT_OUT} |"]


def test_the_manifest_has_the_same_figures(tmp_path: Path) -> None:
    """By name, as decimal texts."""
    _, figures = told(tmp_path, RETRIED, device="cuda")

    assert figures == {
        "attemptSeconds": 3600.0,
        "gpus": 2,
        "gpuHours": "2.50",
        "attemptGPUHours": "2.00",
        "earlierGPUHours": "0.50",
        "costUSD": "9.00",
        "pricePerGPUHourUSD": "3.60",
    }


def test_a_run_on_a_cpu_has_no_gpu_hours(tmp_path: Path) -> None:
    """The local cluster's pools count processes as GPUs, and have no price."""
    assert told(tmp_path, CostSoFar(gpu_seconds=900, cost_usd="0.00"), device="cpu") == (
        ["| spent before publishing | no GPU-hours: the run used a CPU |"],
        {"attemptSeconds": 3600.0, "gpus": 0},
    )


def test_a_merge_says_nothing_of_it(tmp_path: Path) -> None:
    """No GPU was asked for."""
    combine = CombineConfig(
        adapters=(), method="average", rank=0, density=1.0, seed=0, output=a_run(tmp_path, model=tmp_path, data=tmp_path).output
    )  # fmt: skip

    assert told(tmp_path, None, device="cpu", combine=combine) == ([], None)
