"""What `finetune plan` is told about the namespace of a job: quotas in a file. Called by plan."""

from pathlib import Path

from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.cli.manifest_file import read_manifests, title_of
from finetune_operator.errors import FinetuneError
from finetune_operator.planning.quota import NamespaceLimits

QUOTAS_FROM = "use the output of `kubectl get resourcequotas,limitranges -o yaml`"


def limits_of(path: Path, spec: FineTuneJobSpec) -> NamespaceLimits:
    """Return what the ResourceQuotas and LimitRanges of a file let the job have."""
    from finetune_operator.controller.limits import namespace_limits  # noqa: PLC0415 - takes as long to import as a plan takes

    objects = [each for each in read_manifests(path) if each.get("kind") in ("ResourceQuota", "LimitRange")]
    if not objects:
        raise FinetuneError(f"{title_of(path)} contains no ResourceQuota and no LimitRange: {QUOTAS_FROM}")
    try:
        return namespace_limits(objects, spec.priority_class_name or "")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FinetuneError(f"{title_of(path)} cannot be read ({error!r}): {QUOTAS_FROM}") from error
