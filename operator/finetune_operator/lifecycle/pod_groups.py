"""PodGroups of attempts that have ended: Volcano would go on to reserve a queue's resources for them. Called by decide."""

from finetune_operator.lifecycle.conditions import has_ended
from finetune_operator.lifecycle.observation import Child
from finetune_operator.lifecycle.view import View


def left_over(view: View) -> tuple[Child, ...]:
    """Return the PodGroups whose attempt is over."""
    attempt = None if has_ended(view.status) else view.attempt
    current = attempt.number if attempt is not None else None
    old = (each for each in view.seen.pod_groups if each.attempt != current)
    return tuple(Child(kind="PodGroup", name=each.name, uid=each.uid) for each in old)
