"""What `finetune plan` is told about the namespace of a job: quotas and a policy in files. Called by plan."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune_operator.api.plan import ModelArchitecture
from finetune_operator.api.policies import FineTunePolicy
from finetune_operator.api.pools import GPUPool
from finetune_operator.api.preflight import PreflightStatus
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.cli.manifest_file import read_manifests, title_of
from finetune_operator.cli.plan_options import GPU_PUBLISH_SECONDS
from finetune_operator.errors import FinetuneError
from finetune_operator.planning.governed import Offer, governed_plan
from finetune_operator.planning.planner import METHODS, PlannedRun, plan
from finetune_operator.planning.quota import UNLIMITED, NamespaceLimits

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a job is planned with, beside its spec."""

    shape: ModelArchitecture
    found: PreflightStatus
    pools: Sequence[GPUPool]
    limits: NamespaceLimits = UNLIMITED
    policy: FineTunePolicy | None = None
    gpu_publish_seconds: int = GPU_PUBLISH_SECONDS
    """Longest time that GPUs wait for the upload of a model."""


def planned_for(spec: FineTuneJobSpec, around: Surroundings) -> PlannedRun:
    """Return the plan under the namespace's policy. Raises JobError as the operator would fail the job."""

    def ask(offer: Offer) -> PlannedRun:
        return plan(
            offer.spec,
            architecture=around.shape,
            preflight=around.found,
            pools=offer.pools,
            image="",
            limits=around.limits,
            methods=offer.methods,
            gpu_publish_seconds=around.gpu_publish_seconds,
        )

    if around.policy is None:
        return ask(Offer(spec=spec, pools=around.pools, methods=METHODS))
    return governed_plan(spec, around.pools, around.policy, ask)
