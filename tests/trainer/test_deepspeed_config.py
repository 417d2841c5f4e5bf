"""Layout -> DeepSpeed, as pure data."""

from dataclasses import replace

import pytest
from finetune_contract import Layout, Training
from finetune_trainer.training.deepspeed_config import deepspeed_config

A_TRAINING = Training(
    epochs=1, max_steps=8, learning_rate=1e-3, scheduler="cosine", warmup_fraction=0.1, weight_decay=0.0,
    max_grad_norm=1.0, global_batch_size=32, sequence_length=64, over_length="truncate", packing=False,
    precision="mixed", optimizer="adamw", neftune_alpha=0.0, seed=7, early_stopping_patience=0,
    early_stopping_min_delta=0.0,
)  # fmt: skip


def _layout(stage: int, offload: str) -> Layout:
    return Layout(
        replicas=2, gpus_per_replica=4, micro_batch_size=2, gradient_accumulation_steps=2, zero_stage=stage,
        offload=offload, activation_checkpointing=True, attention="sdpa", loss_kernel="tiled",
    )  # fmt: skip


def _zero(stage: int, offload: str) -> object:
    config = deepspeed_config(_layout(stage, offload), A_TRAINING, bf16=True)
    return config and config["zero_optimization"]


def test_plain_data_parallelism_needs_no_deepspeed() -> None:
    """Stage 0 is DDP."""
    assert deepspeed_config(_layout(0, "none"), A_TRAINING, bf16=True) is None


def test_stage_two_shards_optimizer_and_gradients() -> None:
    """The batch sizes are those of the plan."""
    assert deepspeed_config(_layout(2, "none"), A_TRAINING, bf16=True) == {
        "train_micro_batch_size_per_gpu": 2,
        "gradient_accumulation_steps": 2,
        "train_batch_size": 32,
        "gradient_clipping": 1.0,
        "bf16": {"enabled": True},
        "zero_optimization": {"stage": 2, "overlap_comm": True, "contiguous_gradients": True},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**9,
    }


def test_stage_three_gathers_weights_for_saving_and_can_offload_all() -> None:
    """Parameters go to the host only at stage 3."""
    host = {"device": "cpu", "pin_memory": True}
    shared = {
        "stage": 3, "overlap_comm": True, "contiguous_gradients": True,
        "stage3_gather_16bit_weights_on_model_save": True,
    }  # fmt: skip

    assert _zero(3, "none") == shared
    assert _zero(3, "optimizer") == shared | {"offload_optimizer": host}
    assert _zero(3, "all") == shared | {"offload_optimizer": host, "offload_param": host}


@pytest.mark.parametrize(
    ("stage", "offload", "optimizer", "message"),
    [
        (0, "optimizer", "adamw", "offload needs ZeRO stage 2 or 3"),
        (2, "all", "adamw", "offloading parameters needs ZeRO stage 3"),
        (2, "optimizer", "adamw-8bit",
         "offload runs DeepSpeed's own AdamW on the host: optimizer adamw-8bit cannot be used"),
    ],
)  # fmt: skip
def test_what_deepspeed_would_not_honour_is_refused(stage: int, offload: str, optimizer: str, message: str) -> None:
    """DeepSpeed takes these and does something else."""
    with pytest.raises(ValueError, match=message):
        deepspeed_config(_layout(stage, offload), replace(A_TRAINING, optimizer=optimizer), bf16=True)
