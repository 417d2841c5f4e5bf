"""What the export Pod of a job with mergeOf is told: which adapters become one, and how it is measured. Called by export."""

from dataclasses import replace

import finetune_contract as contract

from finetune_operator.api.merging import DEFAULT_DENSITY, DEFAULT_SEED, MergeOfSpec
from finetune_operator.api.published import ExportStatus
from finetune_operator.api.spec import OutputSpec
from finetune_operator.api.status import FineTuneJob, FineTuneJobStatus
from finetune_operator.manifests import run_config
from finetune_operator.manifests.data_config import dataset, location
from finetune_operator.manifests.measured import evaluation
from finetune_operator.manifests.serving_facts import serving_facts

ONE_PROCESS = contract.Layout(
    replicas=1, gpus_per_replica=1, micro_batch_size=4, gradient_accumulation_steps=1, zero_stage=0, offload="none",
    activation_checkpointing=False, attention="sdpa", loss_kernel="tiled", answers_at_once=8,
)  # fmt: skip
"""One process without a GPU."""


def merge_config(job: FineTuneJob, status: FineTuneJobStatus, export: ExportStatus) -> contract.RunConfig:
    """Return a run without steps: what it reads, merges, measures and publishes."""
    spec, preflight = status.resolved, status.preflight
    assert spec is not None
    assert preflight is not None
    assert spec.merge_of is not None
    assert spec.lora is not None
    return contract.RunConfig(
        namespace=job.metadata.namespace,
        name=job.metadata.name,
        uid=job.metadata.uid,
        attempt=export.number,
        run_digest=status.run_digest,
        dataset_digest=preflight.dataset_digest,
        model=replace(run_config.model(spec.model), revision=preflight.model_revision),
        datasets=tuple(dataset(entry) for entry in spec.datasets),
        chat=run_config.chat(spec.chat),
        objective=spec.objective,
        method="lora",
        lora=run_config.lora(spec.lora),
        training=contract.Training(
            epochs=1, max_steps=1, learning_rate=0.0, scheduler="constant", warmup_fraction=0.0, weight_decay=0.0,
            max_grad_norm=1.0, global_batch_size=4, sequence_length=spec.training.sequence_length,
            over_length=spec.training.over_length, packing=False, precision="bf16", optimizer="adamw", neftune_alpha=0.0,
            seed=spec.training.seed, early_stopping_patience=0, early_stopping_min_delta=0.0,
        ),
        evaluation=evaluation(spec.evaluation),
        layout=ONE_PROCESS,
        checkpoint=contract.Checkpointing(
            location=run_config.checkpoint_location(spec.checkpoint), keep=spec.checkpoint.keep, interval_seconds=0
        ),
        output=run_config.output_location(spec.output),
        prepared=run_config.prepared_location(preflight.prepared_uri, spec.checkpoint, spec.output),
        combine=combine(spec.merge_of, spec.output),
        serving=serving_facts(status),
        provenance={"image": export.image},
    )  # fmt: skip


def combine(asked: MergeOfSpec, output: OutputSpec) -> contract.CombineConfig:
    """Return which adapters become one, and how."""
    return contract.CombineConfig(
        adapters=tuple(
            contract.WeightedAdapter(location=location(one.source, one.credentials), weight=float(one.weight))
            for one in asked.adapters
        ),
        method=asked.method,
        rank=asked.rank or 0,
        density=float(asked.density or DEFAULT_DENSITY),
        seed=DEFAULT_SEED if asked.seed is None else asked.seed,
        output=run_config.output_location(output),
    )
