"""What the Pod needs that publishes a model or exports a result: memory, disk, cores, time. No GPU. Called by report and lifecycle."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from finetune_operator.api.locations import is_on_volume, is_read_back
from finetune_operator.api.plan import ExportPlan, ModelArchitecture
from finetune_operator.api.resolved import ResolvedSpec
from finetune_operator.api.spec import ExportForm
from finetune_operator.planning.cpu_pod import (
    CONTAINER_SECONDS,
    EXPORT_CPUS,
    IMPORT_SECONDS,
    MATRICES_PER_LAYER,
    MATRIX_SECONDS,
    SIXTEEN_BIT_FLOPS,
    CpuSeconds,
)
from finetune_operator.planning.dtypes import BFLOAT16, FLOAT32, base_dtype, width
from finetune_operator.planning.host import DISK_BASE_GIB, ONE_FILE_BYTES, SHARD_GIB
from finetune_operator.planning.saving import GIB, READ_GIB_PER_SECOND, WRITE_GIB_PER_SECOND

BYTES_PER_PARAMETER: dict[ExportForm, float] = {
    "merged": 2.0,
    "gguf-f16": 2.0,
    "gguf-q8_0": 1.0625,
    "gguf-q4_k_m": 0.61,
}
"""Of what is stored: 16 bit; 34 bytes for 32 weights (Q8_0); 4.5 bits, with a sixth of the weights at 6.6 (Q4_K_M)."""

EXPORT_PROCESS_GIB = 2.5
"""Resident memory of a process with torch, transformers and PEFT, without CUDA."""

MERGED_GIB_PER_SECOND = 0.045
"""Of the 16-bit model: each matrix is merged in float32 and calculated a second time, then written, read back and hashed three times.
Measured: 0.25 GiB in 4.6 CPU seconds, 2.3 GiB in 47."""

CONVERTED_GIB_PER_SECOND = 0.1
"""Of the 16-bit model, for each GGUF: read, converted and written by one core. Measured: 0.25 GiB in 2.5 s, after the start."""

QUANTISED_GIB_PER_SECOND = 0.05
"""Of the 16-bit model, for a Q4_K_M. Measured: 0.25 GiB in 5.2 s."""

GGUF_SECONDS = 6
"""For each GGUF: the converter and llama.cpp's engine start. Measured: 5.2."""

CHECKED_TOKENS = 256
CHECKS = 3
"""Base, base with adapter, and the merged model."""


PIECE_GIB = 1.0
"""Parts of files on their way."""

HASHED_GIB_PER_SECOND = 0.5
"""sha256 of one core of a cloud. Measured: 1.3 with the processor's own instructions for it."""

HASHES = 2
"""Compared with what the checkpoint says, and written into the manifest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelToPublish:
    """The model of a full fine-tune, as a checkpoint has it and as it is published."""

    stored_gib: float
    published_gib: float
    mounted: bool
    """The checkpoint lies on a volume."""
    read_back: bool
    """What is published is read back before it counts."""

    rewritten_gib: float
    """What is written anew: all where the dtype changes, a file where tied weights are stored twice."""
    matrix_gib: float
    """The largest matrix, as it is stored and as it is published."""


def model_of(
    resolved: ResolvedSpec, zero_stage: int, shape: ModelArchitecture, base_bytes: int, dtype: str
) -> ModelToPublish:
    """Return the sizes of a model that is published in `dtype`: that of its base, or empty where preflight has not looked.

    Without sharding a checkpoint of float32 weights holds them in float32, else bfloat16 copies.
    """
    parameters = shape.num_parameters
    stored = FLOAT32 if zero_stage == 0 and resolved.training.precision == "mixed" else BFLOAT16
    made = base_dtype(dtype, base_bytes, parameters)
    published = max(base_bytes, 2 * parameters) / GIB
    twice = min(published, ONE_FILE_BYTES / GIB) if zero_stage == 2 and shape.tied_embeddings else 0.0
    return ModelToPublish(
        rewritten_gib=published if stored != made else twice,
        matrix_gib=(width(stored) + width(made)) * largest_matrix(shape) / GIB,
        stored_gib=width(stored) * parameters / GIB,
        published_gib=published,
        mounted=is_on_volume(resolved.checkpoint.destination),
        read_back=is_read_back(resolved.output.destination),
    )


def export_plan(
    exports: Sequence[ExportForm],
    *,
    architecture: ModelArchitecture,
    model_bytes: int,
    adapter_bytes: int,
    mounted: bool,
    model: ModelToPublish | None = None,
    cpus: int = EXPORT_CPUS,
) -> ExportPlan | None:
    """Return what the export Pod needs; None where it has nothing to do. `mounted`: the base model lies on a volume.

    `model` is published first, where an attempt leaves it.
    """
    forms = (
        forms_plan(
            exports,
            architecture=architecture,
            model_bytes=model_bytes,
            adapter_bytes=adapter_bytes,
            mounted=mounted,
            cpus=cpus,
        )
        if exports
        else None
    )
    if model is None:
        return forms
    first = publishing_plan(model, cpus=cpus)
    if forms is None:
        return first
    return ExportPlan(
        publishes=True,
        memory_gib=max(first.memory_gib, forms.memory_gib),
        cpus=cpus,
        ephemeral_gib=first.ephemeral_gib + forms.ephemeral_gib - math.ceil(DISK_BASE_GIB),
        seconds=first.seconds + forms.seconds,
        size_gib=f"{float(first.size_gib) + float(forms.size_gib):.2f}",
    )


def publishing_plan(model: ModelToPublish, *, cpus: int) -> ExportPlan:
    """Return what it takes to fetch the weights, to compare them, to write anew what must be, and to publish."""
    fetched = 0.0 if model.mounted else model.stored_gib
    read_back = model.published_gib / READ_GIB_PER_SECOND if model.read_back else 0.0
    written = model.published_gib + model.rewritten_gib
    alone = IMPORT_SECONDS + HASHES * model.stored_gib / HASHED_GIB_PER_SECOND
    return ExportPlan(
        publishes=True,
        memory_gib=math.ceil(EXPORT_PROCESS_GIB + PIECE_GIB + model.matrix_gib),
        cpus=cpus,
        ephemeral_gib=math.ceil(DISK_BASE_GIB + fetched + model.rewritten_gib),
        seconds=math.ceil(
            CONTAINER_SECONDS + fetched / READ_GIB_PER_SECOND + alone + written / WRITE_GIB_PER_SECOND + read_back
        ),
        size_gib=f"{model.published_gib:.2f}",
    )


def forms_plan(
    exports: Sequence[ExportForm],
    *,
    architecture: ModelArchitecture,
    model_bytes: int,
    adapter_bytes: int,
    mounted: bool,
    cpus: int,
) -> ExportPlan:
    """Return what it takes to make forms of a published result."""
    model, adapter = 2.0 * architecture.num_parameters / GIB, adapter_bytes / GIB
    made = {form: BYTES_PER_PARAMETER[form] * architecture.num_parameters / GIB for form in exports}
    # a GGUF is made of the merged model in 16 bit, and a smaller one of the GGUF in 16 bit
    steps = {"merged", *(("gguf-f16",) if any(form.startswith("gguf") for form in exports) else ()), *exports}
    written = sum(BYTES_PER_PARAMETER[form] * architecture.num_parameters / GIB for form in steps)
    fetched = (0.0 if mounted else model_bytes / GIB) + adapter
    ggufs = [form for form in exports if form.startswith("gguf")]
    work = CpuSeconds(
        shared=CHECKS * CHECKED_TOKENS * 2 * architecture.num_active_parameters / SIXTEEN_BIT_FLOPS,
        alone=IMPORT_SECONDS
        + MATRICES_PER_LAYER * architecture.num_layers * MATRIX_SECONDS
        + model / MERGED_GIB_PER_SECOND
        + len(ggufs) * (GGUF_SECONDS + model / CONVERTED_GIB_PER_SECOND)
        + ggufs.count("gguf-q4_k_m") * model / QUANTISED_GIB_PER_SECOND,
    )
    return ExportPlan(
        memory_gib=math.ceil(
            EXPORT_PROCESS_GIB + max(model, model_bytes / GIB) + adapter + _working_gib(architecture, model)
        ),
        cpus=cpus,
        ephemeral_gib=math.ceil(DISK_BASE_GIB + fetched + written),
        seconds=math.ceil(
            CONTAINER_SECONDS
            + fetched / READ_GIB_PER_SECOND
            + work.on(cpus)
            + (written + sum(made.values())) / WRITE_GIB_PER_SECOND
        ),
        size_gib=f"{sum(made.values()):.2f}",
    )


def largest_matrix(shape: ModelArchitecture) -> int:
    """Return the weights of the largest tensor: the embeddings, or all experts of a layer, which some models store as one."""
    experts = max(1, shape.num_experts) * shape.intermediate_size * shape.hidden_size * 2
    return max(shape.vocab_size * shape.hidden_size, experts)


def _working_gib(architecture: ModelArchitecture, model: float) -> float:
    """The shard that is being written, or the largest matrix in float32, with its update, and with the same calculated a second time."""
    return max(min(model, SHARD_GIB), 5 * 4 * largest_matrix(architecture) / GIB)
