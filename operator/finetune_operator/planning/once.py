"""The planner, asked each question once. Called by lifecycle, which asks in every pass that needs a plan.

A sweep asks the same about hundreds of jobs, and a job that does not fit asks whenever a pool changes. Which bucket results and
checkpoints are kept in plays no part in a plan: jobs that differ in nothing else share one.
"""

import functools
from collections.abc import Sequence
from dataclasses import replace

from finetune_operator.api.locations import is_on_volume, is_read_back
from finetune_operator.api.meta import Metadata
from finetune_operator.api.plan import ModelArchitecture, Plan
from finetune_operator.api.pools import GPUPool
from finetune_operator.api.preflight import PreflightStatus
from finetune_operator.api.resolved import Method
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.errors import JobError
from finetune_operator.planning.defaults import checkpoint_of
from finetune_operator.planning.layouts import GPU_PUBLISH_SECONDS
from finetune_operator.planning.planner import METHODS, PlannedRun, plan
from finetune_operator.planning.quota import UNLIMITED, NamespaceLimits

REMEMBERED = 64
SOMEWHERE, ON_A_VOLUME = "s3://somewhere/else", "pvc://somewhere/else"
OF_ONE_JOB = {"prepared_uri": "", "preview_uri": "", "generation": 0, "spec_digest": ""}
"""What no plan depends on of the findings of preflight."""


def planned(  # noqa: PLR0913 - as plan
    spec: FineTuneJobSpec,
    *,
    architecture: ModelArchitecture,
    preflight: PreflightStatus,
    pools: Sequence[GPUPool],
    image: str,
    exceeded: Plan | None = None,
    limits: NamespaceLimits = UNLIMITED,
    methods: tuple[Method, ...] = METHODS,
    gpu_publish_seconds: int = GPU_PUBLISH_SECONDS,
) -> PlannedRun:
    """Return what `plan` returns, and raise what it raises."""
    found = _answer(
        without_places(spec).model_dump_json(),
        architecture.model_dump_json(),
        preflight.model_copy(update=OF_ONE_JOB).model_dump_json(),
        tuple(as_planned_on(pool).model_dump_json() for pool in pools),
        image,
        exceeded.model_dump_json() if exceeded is not None else "",
        limits,
        methods,
        gpu_publish_seconds,
    )
    if isinstance(found, JobError):
        raise found.with_traceback(None)
    interval = found.resolved.checkpoint.interval_seconds
    checkpoint = checkpoint_of(spec.checkpoint, spec.output).model_copy(update={"interval_seconds": interval})
    return replace(found, resolved=found.resolved.model_copy(update={"output": spec.output, "checkpoint": checkpoint}))


def without_places(spec: FineTuneJobSpec) -> FineTuneJobSpec:
    """Return the spec with results and checkpoints kept where those of every job are: in a store, or on a volume where they are on one."""
    place = SOMEWHERE if is_read_back(spec.output.destination) else ON_A_VOLUME
    beside = ON_A_VOLUME if is_on_volume(checkpoint_of(spec.checkpoint, spec.output).destination) else SOMEWHERE
    return spec.model_copy(
        update={
            "output": spec.output.model_copy(update={"destination": place, "credentials": None}),
            "checkpoint": spec.checkpoint.model_copy(update={"destination": beside, "credentials": None}),
        }
    )


def as_planned_on(pool: GPUPool) -> GPUPool:
    """Return a pool without what changes with every job on it."""
    return GPUPool(metadata=Metadata(name=pool.metadata.name, uid=""), spec=pool.spec)


@functools.lru_cache(maxsize=REMEMBERED)
def _answer(  # noqa: PLR0913, PLR0917 - the key of what is remembered
    spec: str,
    architecture: str,
    preflight: str,
    pools: tuple[str, ...],
    image: str,
    exceeded: str,
    limits: NamespaceLimits,
    methods: tuple[Method, ...],
    gpu_publish_seconds: int,
) -> PlannedRun | JobError:
    """Return the plan, or why there is none."""
    try:
        return plan(
            FineTuneJobSpec.model_validate_json(spec),
            architecture=ModelArchitecture.model_validate_json(architecture),
            preflight=PreflightStatus.model_validate_json(preflight),
            pools=tuple(GPUPool.model_validate_json(pool) for pool in pools),
            image=image,
            exceeded=Plan.model_validate_json(exceeded) if exceeded else None,
            limits=limits,
            methods=methods,
            gpu_publish_seconds=gpu_publish_seconds,
        )
    except JobError as error:
        return error
