"""RunConfig -> TRL's SFTConfig: every option that matters is spelled out, none is left to a library's default. Called by train."""

from pathlib import Path
from typing import Any

from finetune_contract import RunConfig
from trl import SFTConfig

from finetune_trainer.model.precision import Computation
from finetune_trainer.training.deepspeed_config import deepspeed_config

OPTIMIZERS = {"adamw": "adamw_torch_fused", "adamw-8bit": "adamw_8bit", "paged-adamw-8bit": "paged_adamw_8bit"}
"""Ours to transformers' names. Fused: one kernel, and no second copy of a state at the step."""

SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "cosine": ("cosine", {}),
    "linear": ("linear", {}),
    "constant": ("constant_with_warmup", {}),
}

COLLECTIVE_TIMEOUT_SECONDS = 6 * 3600
"""Ranks that have nothing to upload wait for those that do, an hour for the largest checkpoints. A collective that hangs is
found by the watchdog of the entry process (contract.run.stall_seconds), long before."""


def trainer_settings(
    run: RunConfig, computation: Computation, *, folder: Path, steps: int, end_to_end: bool
) -> SFTConfig:
    """Return TRL's configuration of this run; `folder` takes the staged checkpoints.

    `end_to_end`: the rows of a micro batch are laid end to end as one, instead of padded to the longest.
    """
    training, layout = run.training, run.layout
    on_cpu = computation.device == "cpu"
    return SFTConfig(
        output_dir=str(folder),
        run_name=f"{run.namespace}/{run.name}",
        max_steps=steps,
        num_train_epochs=1,  # row_order lays all epochs out as one
        train_sampling_strategy="sequential",
        per_device_train_batch_size=layout.micro_batch_size,
        per_device_eval_batch_size=layout.micro_batch_size,
        gradient_accumulation_steps=layout.gradient_accumulation_steps,
        average_tokens_across_devices=True,
        **_optimisation(run, steps),
        # transformers refuses a DeepSpeed configuration that says otherwise than its own.
        bf16=computation.autocast or (layout.zero_stage > 0 and computation.compute == "bfloat16"),
        fp16=False,
        use_cpu=on_cpu and layout.zero_stage == 0,
        ddp_backend="gloo" if on_cpu and layout.world_size > 1 else None,
        ddp_find_unused_parameters=False,
        ddp_timeout=COLLECTIVE_TIMEOUT_SECONDS,
        deepspeed=deepspeed_config(layout, training, bf16=computation.compute == "bfloat16"),
        activation_checkpointing=layout.activation_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False} if layout.activation_checkpointing else None,
        gradient_checkpointing=layout.activation_checkpointing,
        max_length=None,
        packing=False,  # the rows are packed already
        padding_free=end_to_end,
        dataset_kwargs={"skip_prepare_dataset": True},
        dataloader_pin_memory=not on_cpu,
        dataloader_num_workers=0,
        eval_strategy="no",  # callbacks evaluate and save: by seconds, on signals, and exactly
        save_strategy="no",
        logging_strategy="steps",
        logging_steps=1,
        # Routers are frozen beside an adapter: a loss that asks them for balance would only bend the adapter. A full
        # fine-tune keeps the coefficient that the model's authors trained with (None).
        router_aux_loss_coef=None if run.method == "full" else 0.0,
        logging_nan_inf_filter=False,  # a loss that is not a number must be seen
        disable_tqdm=True,
        report_to="none",
        trust_remote_code=run.model.trust_remote_code,
    )


def _optimisation(run: RunConfig, steps: int) -> dict[str, Any]:
    training = run.training
    scheduler, options = SCHEDULERS[training.scheduler]
    if training.scheduler == "cosine" and run.objective == "cpt":
        # Continued pre-training ends at a tenth: the model should stay ready to learn on.
        scheduler, options = "cosine_with_min_lr", {"min_lr_rate": 0.1}
    return {
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": scheduler,
        "lr_scheduler_kwargs": options,
        "warmup_steps": round(training.warmup_fraction * steps),
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "optim": OPTIMIZERS[training.optimizer],
        "neftune_noise_alpha": training.neftune_alpha or None,
        "seed": training.seed,
        "data_seed": training.seed,
    }


def batch_arithmetic(run: RunConfig, *, rows: int) -> str:
    """Say how the global batch comes about, and how many steps the rows make."""
    layout, training = run.layout, run.training
    passes = training.max_steps * training.global_batch_size / rows
    return (
        f"global batch {training.global_batch_size} = micro batch {layout.micro_batch_size} x accumulation "
        f"{layout.gradient_accumulation_steps} x {layout.world_size} process(es); "
        f"{training.max_steps} steps x {training.global_batch_size} = {passes:.2f} passes over {rows} rows"
    )
