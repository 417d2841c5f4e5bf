"""What it takes to merge adapters and measure the result: host memory, disk, time. No GPU. Called by lifecycle and plan."""

import math

from finetune_operator.api.merging import MergeOfSpec
from finetune_operator.api.plan import ExportPlan, ModelArchitecture
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.api.status import PreflightStatus
from finetune_operator.planning.exports import CPU_FLOPS, EXPORT_CPUS, EXPORT_PROCESS_GIB, export_plan
from finetune_operator.planning.host import DISK_BASE_GIB, GIB
from finetune_operator.planning.speed.duration import DOWNLOAD_GIB_PER_SECOND, START_SECONDS, hours

CPU_BYTES_PER_SECOND = 20e9
"""At which the cores read weights while they generate, one token after the other: two channels of DDR4."""

WHOLE_MATRICES = 4
"""svd, ties and dare: the sum, and its singular vectors; beside one matrix for each adapter."""

SVD_FLOPS_PER_ENTRY = 30
"""Times the smaller side: what a thin singular value decomposition needs."""

MATRICES_PER_LAYER = 7
"""With an adapter: those of attention and of the MLP."""


def merge_plan(spec: FineTuneJobSpec, found: PreflightStatus) -> ExportPlan:
    """Return what the Pod needs to merge, to measure base and merged adapter, and to make the forms in output.exports."""
    merge, shape = spec.merge_of, found.architecture
    assert merge is not None
    assert shape is not None
    mounted, read = spec.model.source.startswith(("pvc://", "file://")), found.adapter_bytes
    made = 2 * read  # float32 where most are 16 bit
    forms = export_plan(
        spec.output.exports or (),
        architecture=shape,
        model_bytes=found.model_bytes,
        adapter_bytes=made,
        mounted=mounted,
    )
    model = max(2.0 * shape.num_parameters, found.model_bytes) / GIB
    adapters = (2 * read + made) / GIB  # read into float32, and the result
    logits = 4 * 4 * max(found.sequence_length, found.task_tokens_max) * shape.vocab_size / GIB
    memory = EXPORT_PROCESS_GIB + max(model + made / GIB + logits, adapters + _whole_gib(merge, shape))
    disk = DISK_BASE_GIB + (0.0 if mounted else found.model_bytes / GIB) + (read + 2 * made) / GIB
    seconds = _seconds(spec, found, shape) + (read + found.model_bytes * (not mounted)) / GIB / DOWNLOAD_GIB_PER_SECOND
    return ExportPlan(
        memory_gib=max(math.ceil(memory), forms.memory_gib if forms else 0),
        cpus=EXPORT_CPUS,
        ephemeral_gib=math.ceil(disk) + (forms.ephemeral_gib if forms else 0),
        seconds=math.ceil(seconds) + (forms.seconds if forms else START_SECONDS),
        size_gib=f"{made / GIB + (float(forms.size_gib) if forms else 0.0):.2f}",
    )


def _largest(shape: ModelArchitecture) -> tuple[int, int]:
    return shape.intermediate_size, shape.hidden_size


def _whole_gib(merge: MergeOfSpec, shape: ModelArchitecture) -> float:
    """The matrices of the layer that is being merged, in float32; exact merges make none."""
    if merge.method in ("average", "linear") and merge.rank is None:
        return 0.0
    return 4 * (len(merge.adapters) + WHOLE_MATRICES) * math.prod(_largest(shape)) / GIB


def _seconds(spec: FineTuneJobSpec, found: PreflightStatus, shape: ModelArchitecture) -> float:
    """Two models on the held-out rows, their answers token by token, and the decompositions."""
    tokens = (found.evaluation_examples + found.label_answers) * found.tokens_p50 + found.task_tokens
    passes = 2 * tokens * 2 * shape.num_active_parameters / CPU_FLOPS
    generated = 2 * found.generated_answers * spec.evaluation.max_answer_tokens
    answers = generated * 2 * shape.num_active_parameters / CPU_BYTES_PER_SECOND
    assert spec.merge_of is not None
    matrices = MATRICES_PER_LAYER * shape.num_layers if _whole_gib(spec.merge_of, shape) else 0
    decomposed = SVD_FLOPS_PER_ENTRY * math.prod(_largest(shape)) * min(_largest(shape)) / CPU_FLOPS
    return passes + answers + matrices * decomposed


def summary(spec: FineTuneJobSpec, plan: ExportPlan) -> str:
    """Return the plan in one line."""
    assert spec.merge_of is not None
    return (
        f"merges {len(spec.merge_of.adapters)} adapters by {spec.merge_of.method} in a Pod of {plan.cpus} CPUs, {plan.memory_gib} GiB of "
        f"memory and {plan.ephemeral_gib} GiB of local disk, in about {hours(plan.seconds)}; no GPU, $0.00"
    )
