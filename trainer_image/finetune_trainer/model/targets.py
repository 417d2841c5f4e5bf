"""Which layers an adapter is put on, and which parameters stay as they are. Called by model; nothing here changes a model.

PEFT's own `all-linear` would take the router of a mixture of experts, every expert, and the vision tower of a
multimodal model. The names are chosen here instead, and written as short suffixes, which servers such as vLLM accept.
"""

import re

import torch
from finetune_contract import Lora
from transformers import PreTrainedModel

from finetune_trainer.errors import UserError

ROUTERS = frozenset({"router", "gate", "shared_expert_gate"})
"""Names of the layers that choose experts, or of the modules that hold them. `gate_proj` is not one of them."""

TAKEN_FOR_EXPERTS = frozenset({"gate_proj", "up_proj", "down_proj"})
"""On a mixture of experts PEFT 0.21 turns these names into all stacked experts, gate and up at double rank: the shared expert
and the dense layers of such a model cannot be named."""

ATTENTION = re.compile(r"(^|_)(attn|attention)$|^self_attn$|^self_attention$")
"""The module that holds the projections of one attention layer."""

PACKED = ".parametrizations."
"""In the name of a tensor that bitsandbytes packed in place."""

EXPERT_CONTAINERS = frozenset({"experts", "expert"})
VISION = re.compile(
    r"(^|\.)(vision_tower|vision_model|visual|vision_embed_tokens|multi_modal_projector|audio_tower)(\.|$)"
)
"""Parts of a multimodal model that text never reaches."""


def target_modules(model: PreTrainedModel, lora: Lora) -> list[str]:
    """Return the linear layers that get an adapter, as suffixes where those hit nothing else.

    Raises UserError where a custom name matches no linear layer.
    """
    if lora.targets == "custom":
        return _custom(model, lora.target_modules)
    names = [name for name in _linear_layers(model) if lora.targets != "attention" or _in_attention(name)]
    names = [name for name in names if lora.experts or not _in_experts(name)]
    if is_mixture(model):
        names = [name for name in names if name.rpartition(".")[2] not in TAKEN_FOR_EXPERTS]
    if not names:
        raise UserError("ModelUnsupported", f"{_kind(model)} has no {lora.targets} layers that can take an adapter")
    return _shortest(names, model)


def expert_parameters(model: PreTrainedModel, lora: Lora) -> list[str]:
    """Return the stacked weights of experts, where adapters on experts were asked for and the model stores them in 3-D.

    Raises UserError at ZeRO stage 3: PEFT multiplies the change out and adds it to the whole tensor.
    """
    if not lora.experts or lora.targets != "all-linear":
        return []
    stacked = [(name, parameter) for name, parameter in model.named_parameters() if is_stacked_expert(name, parameter)]
    if any(is_divided(parameter) for _, parameter in stacked):
        raise UserError(
            "InvalidSpec",
            "spec.lora.experts: adapters on experts cannot be trained at ZeRO stage 3, which shards the experts; "
            "set resources.gpus so that the model fits each GPU, or set experts to false",
        )
    return sorted({_suffix(name, 2) for name, _ in stacked})


def is_mixture(model: PreTrainedModel) -> bool:
    """Say whether the model has experts stacked in one tensor a layer, packed in 4 bit or not."""
    return any(
        is_stacked_expert(name, parameter) or (PACKED in name and _in_experts(name))
        for name, parameter in model.named_parameters()
    )


def is_stacked_expert(name: str, parameter: torch.Tensor) -> bool:
    """Say whether a parameter holds the weights of all experts of a layer in one tensor."""
    # Under ZeRO stage 3 a parameter has no elements from when the model is loaded; its shape is remembered beside it.
    return len(getattr(parameter, "ds_shape", parameter.shape)) == 3 and _in_experts(name)


def is_divided(parameter: torch.Tensor) -> bool:
    """Say whether ZeRO stage 3 has divided a parameter between processes."""
    return hasattr(parameter, "ds_shape")


def vision_parameters(model: PreTrainedModel) -> list[torch.nn.Parameter]:
    """Return the parameters that text never reaches."""
    return [parameter for name, parameter in model.named_parameters() if VISION.search(name)]


def _linear_layers(model: PreTrainedModel) -> list[str]:
    head = model.get_output_embeddings()
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and module is not head
        and ROUTERS.isdisjoint(name.split("."))
        and not VISION.search(name)
    ]


def _in_attention(name: str) -> bool:
    return any(ATTENTION.search(part) for part in name.split(".")[:-1])


def _in_experts(name: str) -> bool:
    return not EXPERT_CONTAINERS.isdisjoint(name.split("."))


def _shortest(names: list[str], model: PreTrainedModel) -> list[str]:
    suffixes = {_suffix(name, 1) for name in names}
    hit = {name for name, _ in model.named_modules() if _suffix(name, 1) in suffixes}
    return sorted(suffixes) if hit == set(names) else sorted(names)


def _suffix(name: str, parts: int) -> str:
    return ".".join(name.split(".")[-parts:])


def _custom(model: PreTrainedModel, wanted: tuple[str, ...]) -> list[str]:
    layers = _linear_layers(model)
    for name in wanted:
        if not any(layer == name or layer.endswith(f".{name}") for layer in layers):
            known = ", ".join(sorted({_suffix(layer, 1) for layer in layers}))
            raise UserError(
                "InvalidSpec",
                f"spec.lora.targetModules: {name} is not a linear layer of {_kind(model)} that can take an adapter; "
                f"choose from {known}",
            )
        if name.rpartition(".")[2] in TAKEN_FOR_EXPERTS and is_mixture(model):
            raise UserError(
                "InvalidSpec",
                f"spec.lora.targetModules: in a mixture-of-experts model {name} would match every expert; "
                "use targets: all-linear with experts: true, or name attention layers",
            )
    return sorted(wanted)


def _kind(model: PreTrainedModel) -> str:
    return type(model).__name__
