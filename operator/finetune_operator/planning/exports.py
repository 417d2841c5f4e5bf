"""What the Pod that exports a published result needs: memory, disk, cores, time. No GPU. Called by report and lifecycle."""

import math
from collections.abc import Sequence

from finetune_operator.api.plan import ExportPlan, ModelArchitecture
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
from finetune_operator.planning.host import DISK_BASE_GIB, GIB, READ_GIB_PER_SECOND, SHARD_GIB, WRITE_GIB_PER_SECOND

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


def export_plan(
    exports: Sequence[ExportForm],
    *,
    architecture: ModelArchitecture,
    model_bytes: int,
    adapter_bytes: int,
    mounted: bool,
    cpus: int = EXPORT_CPUS,
) -> ExportPlan | None:
    """Return what the export Pod needs; None where nothing is exported. `mounted`: the base model lies on a volume."""
    if not exports:
        return None
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


def _working_gib(architecture: ModelArchitecture, model: float) -> float:
    """The shard that is being written, or the largest matrix (embeddings, all experts of a layer) in float32, with its update, and with the
    same calculated a second time."""
    matrices = (
        architecture.vocab_size * architecture.hidden_size,
        max(1, architecture.num_experts) * architecture.intermediate_size * architecture.hidden_size * 2,
    )
    return max(min(model, SHARD_GIB), 5 * 4 * max(matrices) / GIB)
