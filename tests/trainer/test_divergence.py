"""Which loss curves mean that a run is lost: recorded ones, of tiny models trained by this trainer."""

import json
from pathlib import Path

import pytest
from finetune_trainer.errors import UserError
from finetune_trainer.training.divergence import LossWatch

from tests.trainer.running import IN_PROCESS, trained
from tests.trainer.tiny import a_run, conversations, tiny_model

pytestmark = IN_PROCESS

CURVES: dict[str, list[float]] = json.loads((Path(__file__).parents[1] / "data" / "loss_curves.json").read_text())
assert {name: len(curve) for name, curve in CURVES.items()} == {"healthy": 600, "diverging": 320}


def first(curve: list[float], losses: LossWatch) -> tuple[int, str] | None:
    """Return at which step a curve is called lost and with which words."""
    for loss in curve:
        losses.add(loss)
        if figures := losses.diverged():
            return losses.seen, figures
    return None


def test_a_noisy_run_is_not_stopped() -> None:
    """Single rows: the loss jumps from 0.01 to 1.4 and back; nor is the same curve with every step five times as noisy."""
    healthy = CURVES["healthy"]

    assert first(healthy, LossWatch()) is None
    assert first([loss * (5.0 if step % 5 == 0 else 0.2) for step, loss in enumerate(healthy)], LossWatch()) is None


def test_a_run_at_far_too_high_a_rate_is_stopped_with_figures() -> None:
    """The rate rises until the loss goes from 2.4 to 13.8 and stays there."""
    assert first(CURVES["diverging"], LossWatch()) == (
        304,
        "the loss of the last steps is 13.76, 5.7 times its best (2.40 at step 227), and has been above 7.21 for 50 steps",
    )


def test_a_resumed_run_remembers_its_best() -> None:
    """Stopped in the middle of the rise, it is lost at the same step."""
    curve = CURVES["diverging"]

    assert first(curve[280:], LossWatch(curve[:280])) == first(curve, LossWatch())


def test_a_spike_is_survived() -> None:
    """Thirty steps at four times the loss, and back."""
    calm = CURVES["diverging"][:220]

    assert first([*calm, *[12.0] * 30, *calm[-100:]], LossWatch()) is None


def test_a_diverging_run_ends_with_what_to_do(tmp_path: Path) -> None:
    """Its learning rate rises to 10. At 1, as it was recorded, it comes back in the arithmetic of some processors."""
    model, data = tiny_model(tmp_path / "model"), conversations(tmp_path / "data.jsonl", rows=16, longest=5)
    run = a_run(
        tmp_path, model=model, data=data, method="full", learning_rate=10.0, max_grad_norm=1e9, warmup_fraction=1.0,
        scheduler="linear", max_steps=600, prompts=(), baseline=False, fraction=0.0, max_examples=0,
    )  # fmt: skip

    with pytest.raises(
        UserError, match=r"^the loss of the last steps is .* and has been above .* for 50 steps; stopped"
    ):
        trained(run, tmp_path)
