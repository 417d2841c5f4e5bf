"""Layout -> DeepSpeed's configuration. Pure: no torch, no DeepSpeed. Called by settings."""

from typing import Any

from finetune_contract import Layout, Training


def deepspeed_config(layout: Layout, training: Training, *, bf16: bool) -> dict[str, Any] | None:
    """Return DeepSpeed's configuration for ZeRO stage 2 or 3, None for plain data parallelism.

    Raises ValueError for a combination that DeepSpeed would accept and not honour.
    """
    if layout.zero_stage == 0:
        if layout.offload != "none":
            raise ValueError("offload needs ZeRO stage 2 or 3")
        return None
    if layout.offload != "none" and training.optimizer != "adamw":
        raise ValueError(
            f"offload runs DeepSpeed's own AdamW on the host: optimizer {training.optimizer} cannot be used"
        )
    return {
        "train_micro_batch_size_per_gpu": layout.micro_batch_size,
        "gradient_accumulation_steps": layout.gradient_accumulation_steps,
        "train_batch_size": training.global_batch_size,
        "gradient_clipping": training.max_grad_norm,
        "bf16": {"enabled": bf16},
        "zero_optimization": _zero(layout),
        # bitsandbytes' and torch's fused optimizers are not on DeepSpeed's list, and work.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": layout.offload != "none",
        "steps_per_print": 10**9,
    }


def _zero(layout: Layout) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": layout.zero_stage, "overlap_comm": True, "contiguous_gradients": True}
    if layout.offload in ("optimizer", "all"):
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    if layout.zero_stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
        if layout.offload == "all":
            zero["offload_param"] = {"device": "cpu", "pin_memory": True}
    elif layout.offload == "all":
        raise ValueError("offloading parameters needs ZeRO stage 3")
    return zero
