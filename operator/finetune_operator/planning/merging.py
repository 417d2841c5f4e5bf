"""What it takes to merge adapters and measure the result: host memory, disk, time. No GPU. Called by lifecycle and plan."""

import math

from finetune_operator.api.locations import is_on_volume
from finetune_operator.api.merging import MergeOfSpec
from finetune_operator.api.plan import ExportPlan, ModelArchitecture
from finetune_operator.api.preflight import PreflightStatus
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.planning.cpu_pod import (
    ANSWER_BYTES_PER_SECOND,
    CONTAINER_SECONDS,
    EXPORT_CPUS,
    FLOAT32_FLOPS,
    IMPORT_SECONDS,
    LOADED_BYTES_PER_SECOND,
    MATRICES_PER_LAYER,
    MATRIX_SECONDS,
    CpuSeconds,
)
from finetune_operator.planning.exports import EXPORT_PROCESS_GIB, export_plan
from finetune_operator.planning.host import DISK_BASE_GIB
from finetune_operator.planning.models.adapter import Adapter, adapted_linears
from finetune_operator.planning.saving import GIB, READ_GIB_PER_SECOND, WRITE_GIB_PER_SECOND
from finetune_operator.planning.speed.duration import hours
from finetune_operator.planning.speed.generating import SECONDS_PER_LAYER

FLOAT32 = 4
"""Bytes of a weight in a Pod without a GPU (docs/decisions/0004-precision.md)."""

WHOLE_MATRICES = 4
"""ties and dare: the sum, and its singular vectors; beside one matrix for each adapter."""

COMBINED_BYTES_PER_SECOND = 0.5e9
"""Of the adapters in float32, read, added and written. Measured: 0.47 GB in 0.7 s."""

SVD_SECONDS = 2.5e-10
"""For each entry of a matrix, times its smaller side, on one core. Measured: 1.2e-10 to 2.5e-10."""

CHOSEN_SECONDS = {"ties": 1.3e-7, "dare": 3e-8}
"""For each entry of each adapter's whole matrix: ties sorts them, dare draws for each. Measured: 0.9e-7 to 1.4e-7; 1.9e-8 to 3e-8."""

GENERAL_TOKENS = 600
"""Of the general text, on which both models are measured, too: 495 words."""

ANSWERS_AT_ONCE, ROWS_AT_ONCE = 8, 4
"""As the Pod is told (manifests.merging)."""


def merge_plan(spec: FineTuneJobSpec, found: PreflightStatus, *, cpus: int = EXPORT_CPUS) -> ExportPlan:
    """Return what the Pod needs to merge, to measure base and merged adapter, and to make the forms in output.exports."""
    merge, shape = spec.merge_of, found.architecture
    assert merge is not None
    assert shape is not None
    mounted, read = is_on_volume(spec.model.source), found.adapter_bytes
    made = 2 * read  # float32 where most are 16 bit
    forms = export_plan(
        spec.output.exports or (),
        architecture=shape,
        model_bytes=found.model_bytes,
        adapter_bytes=made,
        mounted=mounted,
        cpus=cpus,
    )
    adapters = (2 * read + made) / GIB  # read into float32, and the result
    model = (max(FLOAT32 * shape.num_parameters, found.model_bytes) + made) / GIB
    working = max(_working_gib(spec, found, shape), _task_logits_gib(found, shape))
    memory = EXPORT_PROCESS_GIB + max(model + working, adapters + _whole_gib(merge, shape))
    disk = DISK_BASE_GIB + (0.0 if mounted else found.model_bytes / GIB) + (read + 2 * made) / GIB
    seconds = _elsewhere(found, mounted=mounted, made=made) + _work(spec, found, shape, made).on(cpus)
    return ExportPlan(
        memory_gib=max(math.ceil(memory), forms.memory_gib if forms else 0),
        cpus=cpus,
        ephemeral_gib=math.ceil(disk) + (forms.ephemeral_gib if forms else 0),
        seconds=math.ceil(seconds) + (forms.seconds if forms else 0),
        size_gib=f"{made / GIB + (float(forms.size_gib) if forms else 0.0):.2f}",
    )


def _whole_gib(merge: MergeOfSpec, shape: ModelArchitecture) -> float:
    """The matrices of the layer that is being merged, in float32; the other methods make none."""
    if merge.method not in CHOSEN_SECONDS:
        return 0.0
    return FLOAT32 * (len(merge.adapters) + WHOLE_MATRICES) * shape.intermediate_size * shape.hidden_size / GIB


def _working_gib(spec: FineTuneJobSpec, found: PreflightStatus, shape: ModelArchitecture) -> float:
    """What a batch takes beside the model: keys and values of the answers, or what one layer makes of the rows. Logits come in tiles."""
    length, width = found.sequence_length, shape.num_layers * shape.num_key_value_heads * shape.head_dim
    answers = ANSWERS_AT_ONCE * (length + spec.evaluation.max_answer_tokens) * 2 * width if _asks(spec, found) else 0
    of_a_token = 6 * shape.hidden_size + 3 * max(1, shape.experts_per_token) * shape.intermediate_size
    return FLOAT32 * max(answers, ROWS_AT_ONCE * length * of_a_token) / GIB


def _task_logits_gib(found: PreflightStatus, shape: ModelArchitecture) -> float:
    """The logits of lm-eval's longest request, whole and four times over: it computes them without tiles."""
    return 4 * FLOAT32 * found.task_tokens_max * shape.vocab_size / GIB


def _asks(spec: FineTuneJobSpec, found: PreflightStatus) -> bool:
    return bool(found.generated_answers or spec.evaluation.samples)


def _elsewhere(found: PreflightStatus, *, mounted: bool, made: int) -> float:
    """Seconds in which the cores wait: for the node, for what is fetched, for what is published."""
    fetched = found.adapter_bytes + found.model_bytes * (not mounted)
    return CONTAINER_SECONDS + fetched / GIB / READ_GIB_PER_SECOND + made / GIB / WRITE_GIB_PER_SECOND


def _work(spec: FineTuneJobSpec, found: PreflightStatus, shape: ModelArchitecture, made: int) -> CpuSeconds:
    """Start, merge, load, and measure both models."""
    assert spec.merge_of is not None
    built = MATRICES_PER_LAYER * shape.num_layers * MATRIX_SECONDS
    loaded = FLOAT32 * shape.num_parameters / LOADED_BYTES_PER_SECOND
    combined = (2 * found.adapter_bytes + made) / COMBINED_BYTES_PER_SECOND
    work = CpuSeconds(alone=IMPORT_SECONDS + combined + loaded + built) + _decomposing(spec.merge_of, shape)
    work += _measuring(spec, found, shape, added=made // FLOAT32)
    return work + _measuring(spec, found, shape, added=0) if spec.evaluation.baseline else work


def _decomposing(merge: MergeOfSpec, shape: ModelArchitecture) -> CpuSeconds:
    """The whole matrices of ties and dare: chosen from by one core, decomposed by all."""
    if merge.method not in CHOSEN_SECONDS:
        return CpuSeconds()
    parts = adapted_linears(shape, Adapter(lora_rank=1))
    entries = sum(part.count * part.inputs * part.outputs for part in parts)
    decomposed = sum(part.count * part.inputs * part.outputs * min(part.inputs, part.outputs) for part in parts)
    return CpuSeconds(
        shared=SVD_SECONDS * decomposed, alone=CHOSEN_SECONDS[merge.method] * len(merge.adapters) * entries
    )


def _measuring(spec: FineTuneJobSpec, found: PreflightStatus, shape: ModelArchitecture, *, added: int) -> CpuSeconds:
    """One model on held-out rows, labels, tasks of lm-eval and the general text, and its answers. `added`: parameters of the adapter."""
    weights, evaluation = shape.num_active_parameters + added, spec.evaluation
    rows = found.evaluation_examples + found.label_answers + found.generated_answers
    read = (rows * found.tokens_p50 + found.task_tokens + GENERAL_TOKENS) * 2 * weights / FLOAT32_FLOPS
    turns = math.ceil(found.generated_answers / ANSWERS_AT_ONCE) * evaluation.max_answer_tokens
    if (samples := evaluation.samples) is not None:
        turns += len(samples.prompts) * samples.max_new_tokens
    turn = CpuSeconds(shared=FLOAT32 * weights / ANSWER_BYTES_PER_SECOND, alone=SECONDS_PER_LAYER * shape.num_layers)
    return CpuSeconds(shared=read + turns * turn.shared, alone=turns * turn.alone)


def summary(spec: FineTuneJobSpec, plan: ExportPlan) -> str:
    """Return the plan in one line."""
    assert spec.merge_of is not None
    return (
        f"merges {len(spec.merge_of.adapters)} adapters by {spec.merge_of.method} in a Pod of {plan.cpus} CPUs, {plan.memory_gib} GiB of "
        f"memory and {plan.ephemeral_gib} GiB of local disk, in about {hours(plan.seconds)}; no GPU, $0.00"
    )
