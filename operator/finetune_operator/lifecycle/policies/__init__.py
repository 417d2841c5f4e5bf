"""The policies, in order: the first that has something to say decides the pass. Each says None to pass on.

Each is named by what it does. The order is part of the design; what must not swap is said beside the chain.
"""

from collections.abc import Callable
from typing import Final

from finetune_operator.lifecycle.policies.attempts import create_missing, retry_or_give_up, watch
from finetune_operator.lifecycle.policies.examination import (
    pin_plan,
    refuse_invalid,
    refuse_shared_checkpoints,
    run_preflight,
)
from finetune_operator.lifecycle.policies.exporting import export_result
from finetune_operator.lifecycle.policies.recovery import remake_plan
from finetune_operator.lifecycle.policies.stops import pause_at_limit, pause_for_queue, pause_on_request
from finetune_operator.lifecycle.policies.terminal import clean_up_ended, record_success
from finetune_operator.lifecycle.step import Step
from finetune_operator.lifecycle.team import refuse_unpermitted
from finetune_operator.lifecycle.view import View

Policy = Callable[[View], Step | None]

POLICIES: Final[tuple[Policy, ...]] = (
    # First: an ended job only gives things back. Any policy before it could run the job a second time.
    clean_up_ended,
    # Before all that reads the plan.
    remake_plan,
    # Before both pauses: what is published is done, whoever asks for a pause and whatever was spent on it.
    record_success,
    # Before the limit: a pause that has begun is finished first, and the user's own reason is the one that is shown.
    pause_on_request,
    # After the user's pause and before the limits, which are about GPUs. Before preflight and plan: nothing is trained again.
    export_result,
    # Before the limit, too: Kueue's words say more than a limit that is reached meanwhile.
    pause_for_queue,
    # Before the next attempt: a job that is out of money does not try again. It reads the plan's price, so that it
    # passes on while there is no attempt.
    pause_at_limit,
    # Before preflight: a mistake costs no Pod. The spec's own mistakes come before those that depend on other jobs.
    refuse_invalid,
    refuse_unpermitted,
    refuse_shared_checkpoints,
    # Before the plan, which is made from what preflight found.
    run_preflight,
    # Before everything that reads the plan. It launches the first attempt.
    pin_plan,
    # Before the missing children: the gone Pods of a failed attempt are not missing, and a retry waits its pause.
    retry_or_give_up,
    # Before watching, which takes for granted that an attempt is there.
    create_missing,
    # Last: it always has something to say.
    watch,
)
