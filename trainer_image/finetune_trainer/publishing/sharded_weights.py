"""Publish a model whose weights DeepSpeed shards: gathered from its float32 masters, in the dtype of the base. Called by train."""

import json
from pathlib import Path

import torch
from transformers import PreTrainedModel

from finetune_trainer.runtime import ranks


def save_whole(model: PreTrainedModel, folder: Path, dtype: torch.dtype, *, masters: bool) -> None:
    """Write the model as save_pretrained does, its weights in `dtype`. Every process must call it; rank 0 writes.

    DeepSpeed's own gathering knows only the 16-bit copies that it computes with. `masters` is False where those copies
    were replaced since the last step: by the best weights of early stopping, which its optimizer does not know.
    """
    weights = _gathered(model, dtype, masters=masters)
    if ranks.rank() != 0:
        return
    model.save_pretrained(folder, state_dict=weights)
    path = folder / "config.json"
    described = json.loads(path.read_text()) | {"dtype": str(dtype).removeprefix("torch.")}
    path.write_text(json.dumps(described, indent=2, sort_keys=True) + "\n")


def _gathered(model: PreTrainedModel, dtype: torch.dtype, *, masters: bool) -> dict[str, torch.Tensor]:
    """Bring the weights to rank 0 one by one, so that no GPU holds more than one whole tensor beside its shards."""
    weights: dict[str, torch.Tensor] = {}
    for name, parameter in model.named_parameters():
        whole = _whole(parameter, master=masters)
        if ranks.rank() == 0:
            weights[name] = whole.to("cpu", dtype, copy=True)
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return weights | {name: value.cpu() for name, value in model.state_dict().items() if name not in parameters}


def _whole(parameter: torch.nn.Parameter, *, master: bool) -> torch.Tensor:
    from deepspeed.runtime.zero import GatheredParameters  # noqa: PLC0415 - the same
    from deepspeed.utils import safe_get_full_fp32_param  # noqa: PLC0415 - two seconds, for sharded runs only

    found = safe_get_full_fp32_param(parameter) if master and parameter.requires_grad else None
    if found is not None:
        return found
    with GatheredParameters([parameter], enabled=hasattr(parameter, "ds_id")):
        return parameter.detach().clone()
