"""What of a result is still missing, the result itself or further forms of it, and the Pod that makes it. Called by record and policies."""

from finetune_operator.api.reasons import AttemptOutcome
from finetune_operator.api.spec import ExportForm
from finetune_operator.lifecycle.attempt_record import record_published
from finetune_operator.lifecycle.observation import SeenPod
from finetune_operator.lifecycle.view import View
from finetune_operator.manifests.export import handed_over_by


def is_published(view: View) -> bool:
    """Tell whether the adapter or model is at the destination: by an attempt of this job, or of an earlier one."""
    last = view.last_attempt
    if last is None or last.handed_over:
        return bool(view.status.artifacts)
    return last.outcome == AttemptOutcome.SUCCEEDED


def is_handed_over(view: View) -> bool:
    """Tell whether an attempt has left its model, and nobody has published it yet."""
    return handed_over_by(view.status) is not None


def is_merging(view: View) -> bool:
    """Tell whether the adapters in mergeOf are still to become one."""
    return view.spec.merge_of is not None and not view.status.artifacts


def missing_exports(view: View) -> tuple[ExportForm, ...]:
    """Return the forms in output.exports that are not published. A whole model is merged already."""
    kinds = {artifact.kind for artifact in view.status.artifacts}
    have = kinds | ({"merged"} if "model" in kinds else set())
    return tuple(form for form in view.spec.output.exports or () if form not in have)


def export_pod_of(view: View) -> SeenPod | None:
    """Return the Pod of the current try."""
    number = view.status.export.number if view.status.export is not None else 0
    return next((pod for pod in view.pods if pod.role == "export" and pod.attempt == number), None)


def record_export(view: View) -> View:
    """Keep what the export Pod has published, also one that failed at a further form: the Pod may be gone in the next pass."""
    pod = export_pod_of(view)
    if pod is None or not pod.finished or pod.outcome is None:
        return view
    return record_published(view, pod.outcome)
