"""Makes each step of a container last a fifth of a second. TEST ONLY: Python imports it where PYTHONPATH names this folder.

A run of tiny steps is over within two seconds: a test that is to interrupt it would come too late on a busy machine.
"""

import time

from finetune_trainer.runtime.heartbeat import Heartbeat

STEP_SECONDS = 0.2

_beat = Heartbeat.beat


def _slow_beat(self: Heartbeat) -> None:
    _beat(self)
    time.sleep(STEP_SECONDS)


Heartbeat.beat = _slow_beat  # type: ignore[method-assign]
