"""How early stopping stands: a state that each checkpoint holds. Called by held_out and train."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

STATE_FILE = "evaluation-state.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How early stopping stands. Part of each checkpoint, so that a preempted run stops where the other would."""

    evaluated_step: int = -1
    best_loss: float | None = None
    best_slot: str = ""
    worse: int = 0
    stopped: bool = False

    def after(self, step: int, loss: float, *, min_delta: float, patience: int) -> "Patience":
        """Return how it stands after one more evaluation; `best_slot` is the caller's to fill in."""
        if self.best_loss is None or loss < self.best_loss - min_delta:
            return replace(self, evaluated_step=step, best_loss=loss, worse=0)
        worse = self.worse + 1
        return replace(self, evaluated_step=step, worse=worse, stopped=bool(patience) and worse >= patience)


def read_patience(folder: Path | None) -> Patience:
    """Return the state that a checkpoint holds; a fresh one without a checkpoint."""
    path = folder / STATE_FILE if folder is not None else None
    return Patience(**json.loads(path.read_text())) if path is not None and path.is_file() else Patience()
