"""When a checkpoint is saved, and how far it is on its way. Given to the trainer by train, behind all other callbacks.

The trainer writes a checkpoint to the local disk; everything after that is the uploader's (checkpoints.uploads).
"""

import time
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from finetune_trainer.runtime import ranks
from finetune_trainer.runtime.progress import peak_memory_gib, reset_peak_memory, say
from finetune_trainer.training import last_weights
from finetune_trainer.training.bench import Loop
from finetune_trainer.training.callbacks import staged_folder
from finetune_trainer.training.paged import page_again


class Saver(TrainerCallback):
    """Checkpoints by the clock, on SIGTERM and at the end; all ranks decide together at the end of a step.

    After the last step weights alone are saved where they suffice: nothing is trained on from there. They are on their way while the
    model is measured.
    """

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self._saved_at = time.monotonic()
        self._leaves = False
        self._told_waiting = False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """From now on SIGTERM means: finish the step, save, leave. What loading and the baseline took is no part of the peak."""
        page_again(self.loop.trainer.optimizer)
        self.loop.loading_peak_gib = ranks.largest([peak_memory_gib()[0]])[0]
        reset_peak_memory()
        self._saved_at = self.loop.uploads.safe_at = time.monotonic()
        self.loop.bench.interrupt.must_save = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Agree with the other ranks how far the upload is, whether to save and whether to stop."""
        asked, due, peak, reserved, furthest = self._agree()
        self.loop.bench.reporter.saw_peak(peak, reserved if torch.cuda.is_available() else None)
        self.loop.uploads.advance(furthest)
        report_newest(self.loop)
        trained = state.global_step >= state.max_steps or control.should_training_stop
        self._leaves = bool(asked)
        args.save_only_model = trained and last_weights.suffice(self.loop)
        if asked:
            self.loop.bench.interrupt.asked = True
            control.should_training_stop = True
        control.should_save = self._leaves or trained or (bool(due) and self._way_is_free(state.global_step))
        self.loop.uploads.ended = self._leaves or trained
        if control.should_save:
            self.loop.bench.heartbeat.keep_beating()

    def _agree(self) -> list[float]:
        interval = self.loop.run.checkpoint.interval_seconds
        due = bool(interval) and time.monotonic() - self._saved_at >= interval
        peak, reserved = peak_memory_gib()
        asked = float(self.loop.bench.interrupt.asked)
        return ranks.largest([asked, float(due), peak, reserved or 0.0, self.loop.uploads.look()])

    def _way_is_free(self, step: int) -> bool:
        """Save no further checkpoint while one is on its way: it would overtake, and take the disk of two."""
        current = self.loop.uploads.current
        if current is not None and not self._told_waiting:
            self._told_waiting = True
            say(
                f"a checkpoint is due at step {step}, but {current.name} is still being uploaded "
                f"({time.monotonic() - current.began:,.0f} s so far): the next one is saved when that is complete"
            )
        return current is None

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Send the staged folder on its way; an attempt that was asked to stop waits for it."""
        uploads = self.loop.uploads
        uploads.begin(
            staged_folder(args, state), state.global_step, best=self.loop.patience.best_slot, alone=args.save_only_model
        )
        self._told_waiting = False
        if self._leaves:
            finish(self.loop)
        self.loop.bench.heartbeat.enough()
        self._saved_at = time.monotonic()
        self.loop.clock.skip()


def finish(loop: Loop) -> None:
    """Wait for every checkpoint that is on its way. Every process calls it."""
    loop.uploads.finish()
    report_newest(loop)


def report_newest(loop: Loop) -> None:
    """Report the newest complete checkpoint as soon as it is one."""
    newest, reporter = loop.checkpoints.newest_step, loop.bench.reporter
    if newest != reporter.current.checkpoint_step:
        reporter.update(now=True, checkpoint_step=newest)
