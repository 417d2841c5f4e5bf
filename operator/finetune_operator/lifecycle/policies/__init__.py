"""The policies, in order: the first that has something to say decides the pass. Each says None to pass on."""

from collections.abc import Callable
from typing import Final

from finetune_operator.lifecycle.policies.attempts import failed, incomplete, running
from finetune_operator.lifecycle.policies.examination import crowded, rejected, unexamined, unplanned
from finetune_operator.lifecycle.policies.stops import overspent, suspended
from finetune_operator.lifecycle.policies.terminal import finished, succeeded
from finetune_operator.lifecycle.step import Step
from finetune_operator.lifecycle.view import View

Policy = Callable[[View], Step | None]

POLICIES: Final[tuple[Policy, ...]] = (
    finished,  # ended: free children, honour retention; never run again
    succeeded,  # published: record artifacts and final cost
    suspended,  # asked to pause: checkpoint, delete Pods, keep status
    overspent,  # budget or deadline reached: checkpoint, free the GPUs, wait for a raise
    rejected,  # before the first attempt only: invalid; say why, wait for an edit
    crowded,  # before the first attempt only: another job keeps its checkpoints there
    unexamined,  # no preflight for this spec: run it
    unplanned,  # no plan yet: pin one, or DoesNotFit
    failed,  # some replica failed: next attempt, or give up
    incomplete,  # children missing: create them
    running,  # nothing to do but watch
)
