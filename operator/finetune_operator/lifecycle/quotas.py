"""A plan and the quotas of its namespace, which may have changed since. Called by policies, before a GPU is in use.

Once an attempt has made a step its layout stays: then the Pods wait until the quota lets them in.
"""

from finetune_operator.api.reasons import WaitingReason
from finetune_operator.api.status import AttemptStatus
from finetune_operator.errors import JobError
from finetune_operator.lifecycle.replanning import is_untouched, replanned, tried
from finetune_operator.lifecycle.sizing import sized
from finetune_operator.lifecycle.view import View
from finetune_operator.planning.quota import Pods, pods_of, shares, shortages


def planned_pods(view: View) -> Pods:
    """Return the Pods of the plan, as a quota counts them."""
    plan = view.plan
    return pods_of(plan.pool, plan.replicas, plan.gpus_per_replica, plan.host)


def quotas_moved(view: View) -> bool:
    """Tell whether the plan was made under other quotas than those of now."""
    return tuple(view.plan.quotas) != shares(view.seen.limits, planned_pods(view))


def refitted(view: View, attempt: AttemptStatus) -> View:
    """Return the view with a smaller plan pinned, where a quota was lowered before any Pod of the attempt was let in."""
    refusal = view.seen.refusal
    if refusal is None or refusal.reason != WaitingReason.QUOTA_EXCEEDED or view.replicas(attempt.number):
        return view
    lacking = " and ".join(one.text for one in shortages(view.seen.limits, planned_pods(view)))
    if not lacking or not is_untouched(view):
        return view
    try:
        run = sized(view)
    except JobError:
        return view
    warning = (
        f"{view.plan.summary} needs {lacking}: the quota was lowered after planning, and the job was planned again"
    )
    return replanned(view, run, warning, pools=list(tried(view)))
