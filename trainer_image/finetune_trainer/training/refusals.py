"""Runs that the libraries would accept and not carry out as planned. Called by train."""

from finetune_contract import RunConfig
from trl import SFTTrainer

from finetune_trainer.errors import ReportedError, UserError
from finetune_trainer.evaluation.tasks.extra import check_installed
from finetune_trainer.runtime.progress import say


def refuse_senseless(run: RunConfig) -> None:
    """Raise UserError for combinations that the libraries would accept and not honour, and for a library that is missing."""
    if any(metric.lm_eval for metric in run.evaluation.metrics):
        check_installed()
    adalora, stopping = run.lora is not None and run.lora.variant == "adalora", run.training.early_stopping_patience
    if adalora and run.layout.zero_stage:
        raise UserError(
            "InvalidSpec", "spec.lora.variant: adalora needs whole gradients, which ZeRO shards; use another variant"
        )
    if adalora and stopping:
        raise UserError(
            "InvalidSpec", "spec.training.earlyStopping: adalora's ranks follow a fixed schedule; remove earlyStopping"
        )
    if stopping and run.layout.zero_stage == 3:
        raise UserError(
            "InvalidSpec",
            "spec.training.earlyStopping: the best weights cannot be restored at ZeRO stage 3; remove earlyStopping",
        )
    if run.layout.loss_kernel != "tiled":
        raise UserError(
            "InvalidSpec", f"loss kernel {run.layout.loss_kernel}: supervised fine-tuning always uses the tiled kernel"
        )


def refuse_other_sharding(run: RunConfig, trainer: SFTTrainer) -> None:
    """Hold what accelerate set up against the plan: it falls back to plain replication without a word."""
    layout, accelerator = run.layout, trainer.accelerator
    found, plugin = accelerator.distributed_type.value, accelerator.state.deepspeed_plugin
    stage = plugin.zero_stage if plugin is not None else 0
    wanted = "DEEPSPEED" if layout.zero_stage else "NO" if layout.world_size == 1 else "MULTI"
    as_planned = (accelerator.num_processes, stage) == (layout.world_size, layout.zero_stage)
    if not (as_planned and found.startswith(wanted)):
        raise ReportedError(
            "TrainerError",
            f"the plan says {layout.world_size} process(es) at ZeRO stage {layout.zero_stage}, but accelerate "
            f"set up {accelerator.num_processes} as {found} at ZeRO stage {stage}",
        )
    if plugin is not None:
        say(f"{layout.world_size} processes, DeepSpeed at ZeRO stage {stage}, offload: {layout.offload}")
