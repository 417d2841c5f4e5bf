"""What PEFT injects into a model for a LoRA configuration, counted exactly. Called by planner and memory model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from finetune_operator.api.plan import ModelArchitecture
from finetune_operator.planning.models.architecture import linears
from finetune_operator.planning.models.families import Linear

Targets = Literal["all-linear", "attention", "custom"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """The parts of LoraSpec that decide how many parameters are trained."""

    lora_rank: int
    targets: Targets = "all-linear"
    target_modules: tuple[str, ...] = ()
    experts: bool = False
    """Also the stacked experts of a mixture; the router never."""
    dora: bool = False
    adalora: bool = False
    """Starts at 1.5 times the rank and prunes: memory needs the start."""

    @property
    def start_rank(self) -> int:
        """LoRA rank at the first step."""
        return round(1.5 * self.lora_rank) if self.adalora else self.lora_rank


def adapted_linears(shape: ModelArchitecture, adapter: Adapter) -> tuple[Linear, ...]:
    """Return the matrices that get an adapter.

    all-linear: every torch.nn.Linear but head, router and the gate of a shared expert; attention: those of attention;
    custom: by last part of the module's name (a longer name must match its end). Experts, which transformers stacks in
    one tensor per layer, only on request. Where there are experts, all-linear leaves the shared and dense MLPs alone:
    PEFT reads their names as those of the experts.
    """
    return tuple(part for part in linears(shape) if _is_adapted(part, adapter, mixture=shape.num_experts > 0))


def _is_adapted(part: Linear, adapter: Adapter, *, mixture: bool) -> bool:
    if part.experts:
        return adapter.experts
    match adapter.targets:
        case "all-linear":
            return part.role in ("attention", "other") or (part.role == "mlp" and not mixture)
        case "attention":
            return part.role == "attention"
        case "custom":
            return part.role != "router" and _is_named(part.name, adapter.target_modules)


def _is_named(name: str, wanted: Sequence[str]) -> bool:
    """Whether a module's name is one of the wanted, or ends in it after a dot: as PEFT compares."""
    return any(name == one or name.endswith("." + one) or one.endswith("." + name) for one in wanted)


def adapter_parameters(shape: ModelArchitecture, adapter: Adapter) -> int:
    """Count the adapter's parameters: LoRA rank x (inputs + outputs) per matrix.

    DoRA adds a magnitude per output; AdaLoRA starts at 1.5 times the rank and adds one singular value per rank.
    """
    total = 0
    for part in adapted_linears(shape, adapter):
        total += part.count * adapter.start_rank * (part.inputs + part.outputs)
        total += part.count * (part.outputs * adapter.dora + adapter.start_rank * adapter.adalora)
    return total
