"""The base model with its dtype and quantisation, and the adapter on it. Called by train.

Every dtype is explicit: TRL and transformers have different defaults. Nothing is executed from a model's folder unless
the run says so (trust_remote_code).
"""

import json
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from finetune_contract import Lora, RunConfig, shorten
from peft import AdaLoraConfig, LoraConfig, PeftConfig, PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from finetune_trainer.errors import UserError
from finetune_trainer.model import experts, targets, varlen
from finetune_trainer.model.assertions import assert_adapter_loaded, assert_all_loaded, assert_numbers
from finetune_trainer.model.precision import Computation
from finetune_trainer.model.tiled_loss import fit_for_tiled_loss
from finetune_trainer.model.tokenizer import load_tokenizer as tokenizer_of
from finetune_trainer.runtime import ranks
from finetune_trainer.runtime.progress import say
from finetune_trainer.storage import fetch_adapter
from finetune_trainer.storage.headers import published_dtype
from finetune_trainer.storage.weights import weight_files

ADALORA_START_FACTOR = 1.5
"""AdaLoRA starts with this many times the LoRA rank and prunes down to it (the AdaLoRA paper's ratio)."""

ADALORA_WARM_UP, ADALORA_FINAL = 0.1, 0.3
"""Shares of the steps before pruning begins, and after it has ended."""


UNLOADED = ("Error(s) in loading state_dict", "We encountered some issues during automatic conversion")
"""How transformers begins to say that tensors do not fit; the rest of its RuntimeErrors are other matters."""


def load_tokenizer(folder: Path, run: RunConfig) -> PreTrainedTokenizerBase:
    """Load the base model's tokenizer from a local folder."""
    return tokenizer_of(folder, run.model)


def base_model(folder: Path, run: RunConfig, computation: Computation) -> PreTrainedModel:
    """Load the base model onto this process's device; its weights are as stored but for dtype and quantisation."""
    try:
        model = _loaded(folder, run, computation)
    except ValueError as error:
        raise UserError("ModelUnsupported", f"transformers cannot load this model: {error}") from error
    except SafetensorError as error:
        raise UserError(
            "ModelInvalid",
            f"a weight file of {run.model.location.uri} cannot be read ({error}): copy the model's files again",
        ) from error
    except RuntimeError as error:
        if not str(error).startswith(UNLOADED):
            raise
        raise UserError(
            "ModelInvalid",
            f"transformers cannot load the weights of {run.model.location.uri}: {shorten(' '.join(str(error).split()), 300)}",
        ) from error
    assert_numbers(model, run.model.location.uri)
    for parameter in targets.vision_parameters(model):
        parameter.requires_grad_(False)
    if run.method == "qlora":
        from finetune_trainer.model.quantise import keep_layout  # noqa: PLC0415 - one second, for qlora only

        keep_layout(model)
    return model


def _loaded(folder: Path, run: RunConfig, computation: Computation) -> PreTrainedModel:
    trust = run.model.trust_remote_code
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust)
    _refuse_quantised(config)
    experts.register()
    with _quantizer(run):
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=load_dtype(run, computation),
            attn_implementation=attention(config, run, computation),
            quantization_config=quantization(run, computation),
            device_map=_device_map(run, computation),
            trust_remote_code=trust,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are told by name, and refused
        )
    assert_all_loaded(info, run.model.location.uri)
    fit_for_tiled_loss(model)
    return model


def _quantizer(run: RunConfig) -> AbstractContextManager[None]:
    """Return the context in which transformers packs experts too, for qlora."""
    if run.method != "qlora":
        return nullcontext()
    from finetune_trainer.model.quantise import experts_too  # noqa: PLC0415 - one second, for qlora only

    return experts_too()


def load_dtype(run: RunConfig, computation: Computation) -> torch.dtype:
    """Return the dtype that weights arrive in.

    DeepSpeed casts the model to the type it computes in before it makes its float32 masters (engine.py,
    _cast_module_mixed_precision): wider weights would be no more exact, and fill the GPU twice over while they load.
    """
    return getattr(torch, computation.compute if run.layout.zero_stage else computation.weights)


def attention(config: Any, run: RunConfig, computation: Computation) -> str:
    """Return the attention to load with: eager where the model has no other.

    Gemma 2 caps its attention scores (soft-capping), which torch's sdpa cannot; transformers refuses to load it so.
    """
    mapping = MODEL_FOR_CAUSAL_LM_MAPPING
    family = mapping[type(config)] if type(config) in mapping else None  # noqa: SIM401 - its get() has no default
    if run.layout.attention == "eager":
        return "eager"
    if getattr(family, "_supports_sdpa", True):
        return _varlen_or_sdpa(run, computation)
    name = type(config).__name__.removesuffix("Config")
    say(
        f"{name} does not support sdpa: it uses eager attention, whose memory grows with the square of the sequence length"
    )
    return "eager"


def _varlen_or_sdpa(run: RunConfig, computation: Computation) -> str:
    if varlen.serves(run.layout, computation.device):
        varlen.register()
        return varlen.VARLEN
    if run.layout.attention == varlen.VARLEN:
        found = ".".join(map(str, torch.cuda.get_device_capability()))
        say(
            f"the GPU has compute capability {found}, but variable-length attention needs 8.0: rows are padded or get a dense "
            "mask, which takes more memory than was planned"
        )
    return "sdpa"


def stored_dtype(folder: Path) -> torch.dtype:
    """Return the dtype that most weights of a model folder are stored in."""
    written: list[str] = []
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as weights:
            written += [weights.get_slice(name).get_dtype() for name in weights.keys()]  # noqa: SIM118 - safe_open is no mapping
    return getattr(torch, published_dtype(written))


def _refuse_quantised(config: Any) -> None:
    text = config.get_text_config()
    found = getattr(config, "quantization_config", None) or getattr(text, "quantization_config", None)
    if found is None:
        return
    kind = found.get("quant_method", "unknown method") if isinstance(found, dict) else type(found).__name__
    raise UserError(
        "ModelUnsupported",
        f"the model is already quantised ({kind}) and cannot be trained: "
        "use the unquantised model; method qlora quantises it while loading",
    )


def quantization(run: RunConfig, computation: Computation) -> BitsAndBytesConfig | None:
    """Return how the frozen base weights are stored: NF4 with double quantisation for qlora, else not at all."""
    if run.method != "qlora":
        return None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, computation.compute),
        # Sharded runs move the packed weights as if they were of this type.
        bnb_4bit_quant_storage=getattr(torch, computation.compute) if run.layout.zero_stage == 3 else torch.uint8,
    )


def _device_map(run: RunConfig, computation: Computation) -> dict[str, Any] | None:
    if run.layout.zero_stage == 3:
        return None  # DeepSpeed shards the weights while they load
    return {"": ranks.local_rank() if computation.device == "cuda" else "cpu"}


def adapter_config(model: PreTrainedModel, lora: Lora, *, steps: int) -> PeftConfig:
    """Return PEFT's description of a new adapter."""
    shared: dict[str, Any] = {
        "task_type": "CAUSAL_LM",
        "target_modules": targets.target_modules(model, lora),
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "modules_to_save": list(lora.modules_to_save) or None,
        # A copy of the embeddings must stay the head too, where the base model ties them.
        "ensure_weight_tying": bool(lora.modules_to_save) and bool(model.config.get_text_config().tie_word_embeddings),
    }
    if lora.variant == "adalora":
        return _adalora(shared, lora, steps)
    return LoraConfig(
        r=lora.rank,
        use_rslora=lora.variant == "rslora",
        use_dora=lora.variant == "dora",
        target_parameters=targets.expert_parameters(model, lora) or None,
        **shared,
    )


def _adalora(shared: dict[str, Any], lora: Lora, steps: int) -> AdaLoraConfig:
    if steps < 10:
        raise UserError("InvalidSpec", f"spec.lora.variant: adalora needs at least 10 steps, and this run has {steps}")
    return AdaLoraConfig(
        init_r=round(lora.rank * ADALORA_START_FACTOR),
        target_r=lora.rank,
        tinit=max(1, round(steps * ADALORA_WARM_UP)),
        tfinal=max(1, round(steps * ADALORA_FINAL)),
        deltaT=max(1, steps // 100),
        total_step=steps,
        **shared,
    )


def with_adapter(model: PreTrainedModel, run: RunConfig, scratch: Path) -> tuple[Any, PeftConfig | None]:
    """Return what the trainer takes: the model and a new adapter's description, or the model with its initial adapter on."""
    if run.lora is None:
        return model, None
    if run.combine is not None:  # it lies there already
        return with_initial_adapter(model, scratch, run), None
    if run.lora.initial_adapter is None:
        return model, adapter_config(model, run.lora, steps=run.training.max_steps)
    return with_initial_adapter(model, fetch_adapter(run.lora.initial_adapter, scratch), run), None


def with_initial_adapter(model: PreTrainedModel, folder: Path, run: RunConfig) -> PeftModel:
    """Continue from an adapter: rank, alpha and targets come from it. One for another base revision is refused."""
    described = json.loads((folder / "adapter_config.json").read_text())
    revision = described.get("revision") or ""
    if revision and run.model.revision and revision != run.model.revision:
        raise UserError(
            "InvalidSpec",
            f"spec.lora.initialAdapter was trained on revision {revision} of its base model, but this run uses "
            f"{run.model.revision}; use that revision of the base model, or train a new adapter",
        )
    uri = run.lora.initial_adapter.uri if run.lora and run.lora.initial_adapter else str(folder)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Found missing adapter keys")  # they are refused below
            continued = PeftModel.from_pretrained(model, str(folder), is_trainable=True)
    except (ValueError, RuntimeError) as error:  # no layer of its names, or one of another size
        if isinstance(error, RuntimeError) and "size mismatch" not in str(error):
            raise
        raise UserError(
            "ModelUnsupported",
            f"the adapter {uri} does not belong to this base model: {shorten(' '.join(str(error).split()), 400)}",
        ) from error
    assert_adapter_whole(continued, folder, uri)
    # The name in the file is the user's; PEFT would look it up on the hub at every save.
    continued.peft_config["default"].base_model_name_or_path = str(model.name_or_path)
    return continued


def assert_adapter_whole(continued: PeftModel, folder: Path, uri: str) -> None:
    """Raise UserError(ModelInvalid) unless the adapter's file holds each of its weights, and the model each of its tensors."""
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        stored = set(file.keys())
    wanted = set(get_peft_model_state_dict(continued, save_embedding_layers=False))
    assert_adapter_loaded(wanted - stored, stored - wanted - set(continued.state_dict()), uri)


def trainable_parameters(model: torch.nn.Module) -> tuple[int, int]:
    """Return (trainable, all) parameters; those that DeepSpeed shards and bitsandbytes packs are counted whole."""
    pairs = [(_numel(parameter), parameter.requires_grad) for parameter in model.parameters()]
    return sum(count for count, trained in pairs if trained), sum(count for count, _ in pairs)


def _numel(parameter: torch.nn.Parameter) -> int:
    if hasattr(parameter, "ds_numel"):
        return int(parameter.ds_numel)
    state = getattr(parameter, "quant_state", None)
    return int(torch.Size(state.shape).numel()) if state is not None else parameter.numel()
