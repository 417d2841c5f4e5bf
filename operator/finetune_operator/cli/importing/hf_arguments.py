"""The words of transformers' TrainingArguments and peft's LoraConfig, which most tools share. Called by the modules of the tools."""

from typing import Any

from finetune_operator.cli.importing.imported import Imported, number_text, short, whole
from finetune_operator.cli.importing.reader import Reader

SCHEDULERS = {"cosine": "cosine", "linear": "linear", "constant": "constant", "constant_with_warmup": "constant"}
OPTIMIZERS = {
    "adamw": "adamw",
    "adamw_hf": "adamw",
    "adamw_torch": "adamw",
    "adamw_torch_fused": "adamw",
    "paged_adamw_32bit": "adamw",
    "adamw_8bit": "adamw-8bit",
    "adamw_bnb_8bit": "adamw-8bit",
    "adamw_torch_8bit": "adamw-8bit",
    "paged_adamw_8bit": "paged-adamw-8bit",
}
TRAINER_DEFAULTS = {
    "learning_rate": 5e-5,
    "num_train_epochs": 3,
    "per_device_train_batch_size": 8,
    "lr_scheduler_type": "linear",
    "warmup_ratio": 0,
}
"""What transformers' trainer does where nothing is said; a job that says nothing would do something else."""

MLP_AND_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}

PLANNED = tuple(
    """
    bf16 fp16 tf32 pure_bf16 torch_dtype dtype gradient_checkpointing gradient_checkpointing_kwargs deepspeed fsdp
    fsdp_config flash_attention flash_attn sdp_attention xformers_attention attn_implementation load_in_8bit
    ddp_timeout load_in_4bit bnb_4bit_quant_type bnb_4bit_compute_dtype bnb_4bit_use_double_quant
    quantization_type quantization_method double_quantization pad_to_sequence_len pad_to_multiple_of
    eval_batch_size per_device_eval_batch_size low_cpu_mem_usage device_map use_unsloth enable_liger_kernel
    save_safetensors save_only_model zero group_by_length auto_find_batch_size lora_mlp_kernel lora_qkv_kernel
    lora_o_kernel ddp_find_unused_parameters num_nodes upcast_layernorm
    """.split()
)
"""Memory, speed and number formats: the plan chooses them so that the job fits."""

SILENT = tuple(
    """
    do_train do_eval overwrite_cache overwrite_output_dir preprocessing_num_workers dataloader_num_workers
    plot_loss dataset_prepared_path dataset_processes debug local_rank resume_from_checkpoint
    auto_resume_from_checkpoints save_strategy eval_strategy evaluation_strategy run_name push_to_hub disable_tqdm
    strict hub_strategy include_num_input_tokens_seen include_tokens_per_second early_stopping
    load_best_model_at_end logging_dir log_level return_dict remove_unused_columns ddp_backend use_cache bias
    task_type peft_type inference_mode fan_in_fan_out lora_fan_in_fan_out model_type tokenizer_type
    is_llama_derived_model is_mistral_derived_model is_qwen_derived_model is_falcon_derived_model model_revision
    """.split()
)
"""How the other tool works and logs; nothing that is learned depends on it."""


def put_training(job: Imported, given: Reader) -> None:
    """Read the arguments of the trainer."""
    job.put("training.learningRate", number_text(given.number("learning_rate")))
    _put_length(job, given)
    scheduler = given.text("lr_scheduler_type", "lr_scheduler")
    _put_known(job, "training.scheduler", scheduler, SCHEDULERS, "lr_scheduler")
    job.put("training.weightDecay", number_text(given.number("weight_decay")))
    job.put("training.maxGradNorm", number_text(given.number("max_grad_norm")))
    job.put("training.warmupFraction", number_text(given.number("warmup_ratio")))
    if steps := whole(given.number("warmup_steps")):
        job.differs.append(
            f"warmup_steps: {steps}: set training.warmupFraction to {steps} / the steps that the plan shows"
        )
    _put_known(job, "training.optimizer", given.text("optim", "optimizer"), OPTIMIZERS, "optimizer")
    job.put("training.neftuneAlpha", number_text(given.number("neftune_noise_alpha")))
    job.put("training.seed", whole(given.number("seed")))
    put_batch(job, given)
    job.put("evaluation.everySteps", whole(given.number("eval_steps")))
    job.put("checkpoint.keep", whole(given.number("save_total_limit")))
    if steps := given.take("save_steps", "saves_per_epoch", "save_freq"):
        job.differs.append(
            f"save_steps or saves_per_epoch {short(steps)}: checkpoints are saved by time here (checkpoint.intervalSeconds)"
        )


def _put_length(job: Imported, given: Reader) -> None:
    steps, epochs = whole(given.number("max_steps")), given.number("num_train_epochs", "num_epochs", "epochs")
    if steps:
        job.put("training.maxSteps", steps)
        return
    job.put("training.epochs", None if not epochs else max(1, round(epochs)))
    if epochs and epochs != round(epochs):
        job.differs.append(f"{epochs:g} epochs: epochs are whole numbers here; training.maxSteps can stop earlier")


def put_batch(job: Imported, given: Reader) -> None:
    """Read the batch of one GPU; only the batch of all GPUs is a setting here."""
    micro = whole(given.number("per_device_train_batch_size", "micro_batch_size", "batch_size"))
    accumulation = whole(given.number("gradient_accumulation_steps"))
    if micro is None and accumulation is None:
        return
    batch = (micro or 1) * (accumulation or 1)
    job.put("training.globalBatchSize", batch)
    job.differs.append(
        f"batch: {micro or 1} rows x {accumulation or 1} accumulation steps on each GPU; globalBatchSize is of all GPUs together, so "
        f"multiply it by the GPUs that the other run used"
    )


TARGETS = ("lora_target_modules", "lora_target", "target_modules", "lora_target_linear")


def put_lora(job: Imported, given: Reader, *, dropout: bool = True) -> None:
    """Read the settings of an adapter."""
    if not any(given.has(name) for name in TARGETS):
        job.differs.append(
            "target modules are not named: peft mostly takes q_proj and v_proj, here all linear layers get an adapter"
        )
    job.put("lora.rank", whole(given.number("lora_rank", "lora_r", "r")))
    job.put("lora.alpha", whole(given.number("lora_alpha")))
    if dropout:
        job.put("lora.dropout", number_text(given.number("lora_dropout")))
    put_targets(
        job, given.take("lora_target_modules", "lora_target", "target_modules"), linear=given.flag("lora_target_linear")
    )
    saved = names(given.take("lora_modules_to_save", "modules_to_save", "additional_target"))
    job.put("lora.modulesToSave", saved)
    variant = (
        "rslora"
        if given.flag("use_rslora", "peft_use_rslora")
        else "dora"
        if given.flag("use_dora", "peft_use_dora")
        else None
    )
    job.put("lora.variant", variant)


def put_targets(job: Imported, given: Any, *, linear: bool = False) -> None:
    """Read which layers get an adapter."""
    targets = set(names(given))
    if linear or not targets or targets & {"all", "all-linear", "all_linear"} or targets == MLP_AND_ATTENTION:
        return
    if targets == ATTENTION:
        job.put("lora.targets", "attention")
        return
    job.put("lora.targets", "custom")
    job.put("lora.targetModules", sorted(targets))


def names(given: Any) -> list[str]:
    """Return a list of names, which may be written as text with commas."""
    if given is None:
        return []
    parts = given if isinstance(given, list) else str(given).split(",")
    return [str(part).strip() for part in parts if str(part).strip()]


def _put_known(job: Imported, path: str, value: str, known: dict[str, str], name: str) -> None:
    if value and value.lower() not in known:
        job.differs.append(f"{name}: {value} does not exist here: the default is used")
        return
    job.put(path, known.get(value.lower()))
