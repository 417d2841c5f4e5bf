"""How long writes take at present. Kept by api, read by patience."""

from dataclasses import dataclass

SMOOTHING = 0.1
"""Weight of the newest write in the average."""


@dataclass(slots=True)
class Pace:
    """How long a write takes at present."""

    seconds: float = 0.0

    def heard(self, seconds: float) -> None:
        """Take in how long one write took."""
        self.seconds += SMOOTHING * (seconds - self.seconds)
