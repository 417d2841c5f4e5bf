"""An adapter and its base model as one model in 16 bit. Called by export.

PEFT merges, so that whatever it can train is merged right: rslora, DoRA, AdaLoRA, whole modules, experts. Each matrix is
merged in float32 and rounded once: only one at a time is wider than 16 bit.
"""

import hashlib
import warnings
from pathlib import Path
from typing import Any

import torch
from finetune_contract import Model, shorten
from peft import PeftModel
from peft.tuners.lora.layer import ParamWrapper
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from finetune_trainer.errors import UserError
from finetune_trainer.exporting.arithmetic import Arithmetic
from finetune_trainer.model import experts
from finetune_trainer.model.assertions import assert_all_loaded
from finetune_trainer.model.load import assert_adapter_whole, stored_dtype
from finetune_trainer.model.precision import store_in

TIED = "Model (has|with) `tie_word_embeddings=True`"
"""PEFT warns that a merge may be wrong then: `untie` makes it right."""

SHARD = "5GB"
"""Of what is written: a shard is in memory twice while it is."""


def sixteen_bit(folder: Path) -> torch.dtype:
    """Return the dtype to load and to publish in: the one that is stored where it has 16 bit, else bfloat16."""
    stored = stored_dtype(folder)
    return stored if stored in (torch.bfloat16, torch.float16) else torch.bfloat16


def whole_model(folder: Path, model: Model, dtype: torch.dtype) -> PreTrainedModel:
    """Load a model into host memory; each of its weights came from its files."""
    experts.register()
    config = AutoConfig.from_pretrained(folder, trust_remote_code=model.trust_remote_code)
    loaded, info = AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=dtype, trust_remote_code=model.trust_remote_code, use_safetensors=True,
        output_loading_info=True, ignore_mismatched_sizes=True, local_files_only=True,
    )  # fmt: skip
    assert_all_loaded(info, model.location.uri)
    return loaded.eval()


def with_adapter(base: PreTrainedModel, folder: Path, uri: str) -> PeftModel:
    """Put an adapter on its base. Raises UserError where it does not belong to it."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Found missing adapter keys")  # they are refused below
            warnings.filterwarnings("ignore", TIED)
            tuned = PeftModel.from_pretrained(base, str(folder), local_files_only=True)
    except (ValueError, RuntimeError) as error:
        text = shorten(" ".join(str(error).split()), 400)
        raise UserError("ModelInvalid", f"the adapter {uri} does not belong to its base model: {text}") from error
    assert_adapter_whole(tuned, folder, uri)
    return tuned.eval()


def merged(tuned: PeftModel, dtype: torch.dtype, arithmetic: Arithmetic) -> PreTrainedModel:
    """Return the base model with the adapter inside, matrix by matrix. Raises UserError where one is not what the adapter says."""
    untie(tuned)
    for name, layer in tuned.named_modules():
        if isinstance(layer, BaseTunerLayer):
            _merge_one(name, layer, dtype, arithmetic)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All adapters are already merged")
        warnings.filterwarnings("ignore", TIED)
        model: Any = tuned.merge_and_unload(safe_merge=True)  # what is left: whole modules take the place of the base's
    store_in(model, dtype)
    arithmetic.check_whole_modules(model)
    return model


def untie(tuned: PeftModel) -> None:
    """Give the head a matrix of its own where an adapter changes it, or the embeddings, alone: one matrix cannot be both."""
    base: Any = tuned.get_base_model()
    ends = (base.get_input_embeddings(), base.get_output_embeddings())
    config = base.config.get_text_config()
    if not config.tie_word_embeddings or not any(isinstance(end, BaseTunerLayer) for end in ends):
        return
    head = ends[1].base_layer if isinstance(ends[1], BaseTunerLayer) else ends[1]
    head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    config.tie_word_embeddings = base.config.tie_word_embeddings = False


def _merge_one(name: str, layer: Any, dtype: torch.dtype, arithmetic: Arithmetic) -> None:
    """Merge in float32: PEFT adds in the dtype of the base, which would round the update before the sum."""
    wanted = arithmetic.wanted(name, layer, _weight(layer))
    widened = [parameter for name, parameter in layer.named_parameters() if "lora_" not in name]
    for parameter in widened:
        parameter.data = parameter.data.float()
    try:
        layer.merge(safe_merge=True)
    except (RuntimeError, ValueError) as error:  # a bias for a layer that has none, or values that are no numbers
        text = shorten(" ".join(str(error).split()), 300)
        raise UserError(
            "ExportFailed", f"{name} of the adapter cannot be merged: {text}. Serve the adapter with PEFT"
        ) from error
    for parameter in widened:
        parameter.data = parameter.data.to(dtype)
    arithmetic.check(name, _weight(layer), wanted)


def _weight(layer: Any) -> torch.Tensor:
    """Return the matrix that an adapter's layer changes."""
    weight: torch.Tensor = layer.get_param() if isinstance(layer, ParamWrapper) else layer.get_base_layer().weight
    return weight.detach()


def fingerprints(model: PreTrainedModel) -> dict[str, str]:
    """Return a digest of each tensor, to tell whether what is read back is what was written."""
    return {
        name: hashlib.blake2b(tensor.detach().contiguous().view(torch.uint8).numpy()).hexdigest()
        for name, tensor in model.named_parameters()
    }


def assert_read_back(written: dict[str, str], read: dict[str, str]) -> None:
    """Raise UserError(ExportFailed) unless all tensors are what they were, bit for bit."""
    lost = sorted(name for name in written | read if written.get(name) != read.get(name))
    if lost:
        raise UserError(
            "ExportFailed",
            f"{len(lost)} tensors of the merged model are not read back as they were written, first {lost[0]}: it is not published. "
            "Delete the job and apply it again; if it happens again, report this as a bug",
        )


def save(model: PreTrainedModel, folder: Path) -> None:
    """Write the model shard by shard."""
    model.config.dtype = model.dtype
    model.save_pretrained(folder, max_shard_size=SHARD)
