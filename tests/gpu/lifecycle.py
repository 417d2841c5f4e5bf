"""Part 7: the real entry process: SIGTERM, a checkpoint, a resume, and the losses of a run that was never stopped."""

import signal
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.gpu.card import Card
from tests.trainer.running import PACED, container, losses
from tests.trainer.tiny import a_run, conversations, tiny_model

STEPS, STOPPED_AFTER = 12, 4


def check(card: Card) -> None:
    """Run one job whole, and beside it one that is stopped and goes on."""
    with tempfile.TemporaryDirectory() as folder:
        card.say({"name": "stopped and resumed", **stopped_and_resumed(Path(folder), card)})


def stopped_and_resumed(folder: Path, card: Card) -> dict[str, Any]:
    """Return both runs' losses and how the parts ended."""
    model = tiny_model(folder / "model")
    data = conversations(folder / "train.jsonl", rows=60)
    options: dict[str, Any] = {"model": model, "data": data, "max_steps": STEPS, "prompts": (), "baseline": False}
    environment = {**PACED, "FINETUNE_DEVICE": card.device, "PYTHONPATH": f"{PACED['PYTHONPATH']}:{_path()}"}
    whole, halved = a_run(folder / "whole", **options), a_run(folder / "halved", **options)
    with (
        container(whole, folder / "whole", **environment) as first,
        container(halved, folder / "halved", **environment) as second,
    ):
        second.wait_for(lambda report: report.step >= STOPPED_AFTER)
        second.process.send_signal(signal.SIGTERM)
        stopped_code, stopped = second.wait()
        whole_code, _ = first.wait()
    with container(replace(halved, attempt=1), folder / "halved-again", **environment) as third:
        resumed_code, _ = third.wait()
    return {
        "exitCodes": [whole_code, stopped_code, resumed_code], "stoppedAt": stopped.step,
        "checkpointStep": stopped.checkpoint_step, "wholeLosses": losses(folder / "whole"),
        "resumedLosses": losses(folder / "halved"),
    }  # fmt: skip


def _path() -> str:
    """Return where the packages lie, for a machine on which they are not installed."""
    root = Path(__file__).parents[2]
    return ":".join(str(root / name) for name in ("contract", "operator", "trainer_image"))
