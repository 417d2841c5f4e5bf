"""What the Pods are told: PreflightConfig from the spec, RunConfig from pinned status. Called by preflight and pod."""

from dataclasses import replace

import finetune_contract as contract

from finetune_operator.api.data import ChatSpec
from finetune_operator.api.plan import Plan
from finetune_operator.api.resolved import ResolvedCheckpoint, ResolvedLora, ResolvedTraining
from finetune_operator.api.spec import (
    LoraSpec,
    ModelSpec,
    OutputSpec,
)
from finetune_operator.api.status import FineTuneJob, FineTuneJobStatus
from finetune_operator.api.trackers import TrackerSpec
from finetune_operator.manifests.cost_so_far import cost_so_far
from finetune_operator.manifests.data_config import dataset, location
from finetune_operator.manifests.digests import spec_digest
from finetune_operator.manifests.measured import evaluation
from finetune_operator.manifests.pinned import pinned
from finetune_operator.manifests.serving_facts import serving_facts
from finetune_operator.planning.defaults import checkpoint_of


def preflight_config(job: FineTuneJob, generation: int) -> contract.PreflightConfig:
    """Return what the preflight Pod of a generation is told."""
    spec = job.spec
    return contract.PreflightConfig(
        namespace=job.metadata.namespace,
        name=job.metadata.name,
        uid=job.metadata.uid,
        generation=generation,
        spec_digest=spec_digest(spec),
        model=model(spec.model),
        datasets=tuple(dataset(entry) for entry in spec.datasets),
        chat=chat(spec.chat),
        objective=spec.objective,
        sequence_length=spec.training.sequence_length or 0,
        over_length=spec.training.over_length,
        seed=spec.training.seed,
        evaluation=evaluation(spec.evaluation),
        output=output_location(spec.output),
        checkpoint=checkpoint_location(checkpoint_of(spec.checkpoint, spec.output)),
        initial_adapter=initial_adapter(spec.lora),
        merged_adapters=tuple(
            location(one.source, one.credentials) for one in (spec.merge_of.adapters if spec.merge_of else ())
        ),
    )


def run_config(job: FineTuneJob, status: FineTuneJobStatus, attempt: int) -> contract.RunConfig:
    """Return what every Pod of an attempt is told. Reads nothing but identity and what status has pinned."""
    found = pinned(status)
    spec, plan, preflight = found.resolved, found.plan, found.preflight
    return contract.RunConfig(
        namespace=job.metadata.namespace,
        name=job.metadata.name,
        uid=job.metadata.uid,
        attempt=attempt,
        run_digest=status.run_digest,
        dataset_digest=preflight.dataset_digest,
        model=replace(model(spec.model), revision=preflight.model_revision),
        datasets=tuple(dataset(entry) for entry in spec.datasets),
        chat=chat(spec.chat),
        objective=spec.objective,
        method=plan.method,
        lora=None if spec.lora is None else lora(spec.lora),
        training=training(spec.training, plan),
        evaluation=evaluation(spec.evaluation),
        layout=layout(plan),
        checkpoint=checkpointing(spec.checkpoint, plan),
        output=output_location(spec.output),
        prepared=prepared_location(preflight.prepared_uri, spec.checkpoint, spec.output),
        trackers=tuple(tracker(entry, job.metadata.name) for entry in spec.trackers),
        serving=serving_facts(status),
        cost_so_far=cost_so_far(status, plan, attempt),
        provenance={"image": plan.image, "plan": plan.summary},
        hand_over=plan.export is not None and plan.export.publishes,
    )


def output_location(output: OutputSpec) -> contract.Location:
    """Return where the result goes."""
    return location(output.destination, output.credentials)


def checkpoint_location(checkpoint: ResolvedCheckpoint) -> contract.Location:
    """Return where the resumable state is kept."""
    return location(checkpoint.destination, checkpoint.credentials)


def prepared_location(uri: str, checkpoint: ResolvedCheckpoint, output: OutputSpec) -> contract.Location | None:
    """Return where preflight left the tokenised rows; it puts them beside the checkpoints or the output."""
    if not uri:
        return None
    beside = checkpoint_location(checkpoint)
    return contract.Location(uri=uri, secret=(beside if uri.startswith(beside.uri) else output_location(output)).secret)


def initial_adapter(lora: LoraSpec) -> contract.Location | None:
    """Return the adapter to continue from."""
    return None if lora.initial_adapter is None else location(lora.initial_adapter, lora.initial_adapter_credentials)


def model(asked: ModelSpec) -> contract.Model:
    """Return the base model."""
    return contract.Model(
        location=location(asked.source, asked.credentials),
        revision=asked.revision or "",
        trust_remote_code=asked.trust_remote_code,
    )


def chat(asked: ChatSpec) -> contract.Chat:
    """Return how conversations become text."""
    source = asked.template_source
    return contract.Chat(
        template=asked.template,
        template_source=None if source is None else location(source, asked.template_credentials),
        template_arguments={argument.name: argument.value for argument in asked.template_arguments or ()},
        system_prompt=asked.system_prompt,
        train_on=asked.train_on,
    )


def lora(asked: ResolvedLora) -> contract.Lora:
    """Return the adapter's shape."""
    return contract.Lora(
        rank=asked.rank,
        alpha=asked.alpha,
        dropout=float(asked.dropout),
        targets=asked.targets,
        target_modules=tuple(asked.target_modules or ()),
        experts=asked.experts,
        modules_to_save=tuple(asked.modules_to_save or ()),
        variant=asked.variant,
        initial_adapter=initial_adapter(asked),
    )


def training(asked: ResolvedTraining, plan: Plan) -> contract.Training:
    """Return what is learned and how fast."""
    stop = asked.early_stopping
    return contract.Training(
        epochs=asked.epochs,
        max_steps=plan.steps,
        learning_rate=float(asked.learning_rate),
        scheduler=asked.scheduler,
        warmup_fraction=float(asked.warmup_fraction),
        weight_decay=float(asked.weight_decay),
        max_grad_norm=float(asked.max_grad_norm),
        global_batch_size=plan.global_batch_size,
        sequence_length=asked.sequence_length,
        over_length=asked.over_length,
        packing=plan.packing,
        precision=plan.precision,
        optimizer=plan.optimizer,
        neftune_alpha=float(asked.neftune_alpha),
        seed=asked.seed,
        early_stopping_patience=stop.patience if stop else 0,
        early_stopping_min_delta=float(stop.min_delta) if stop else 0.0,
    )


def layout(plan: Plan) -> contract.Layout:
    """Return how the run is spread over GPUs."""
    return contract.Layout(
        replicas=plan.replicas,
        gpus_per_replica=plan.gpus_per_replica,
        micro_batch_size=plan.micro_batch_size,
        gradient_accumulation_steps=plan.gradient_accumulation_steps,
        zero_stage=plan.zero_stage,
        offload=plan.offload,
        activation_checkpointing=plan.activation_checkpointing,
        attention=plan.attention,
        loss_kernel=plan.loss_kernel,
        answers_at_once=plan.answers_at_once,
        flops_per_token=plan.flops_per_token,
        peak_tflops_per_gpu=float(plan.peak_tflops_per_gpu or 0),
    )


def tracker(asked: TrackerSpec, job: str) -> contract.Tracker:
    """Return where the figures of the run are shown."""
    return contract.Tracker(
        type=asked.type, location=location(asked.uri or "", asked.credentials), project=asked.project or job
    )


def checkpointing(checkpoint: ResolvedCheckpoint, plan: Plan) -> contract.Checkpointing:
    """Return where and how often the run is saved."""
    return contract.Checkpointing(
        location=checkpoint_location(checkpoint),
        keep=checkpoint.keep,
        interval_seconds=plan.checkpoint.interval_seconds,
    )
