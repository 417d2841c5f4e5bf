"""Which inference servers load an adapter as it is. One table of rules with their sources; pure. Part of contract.

The planner asks it about a plan before money is spent, the trainer about the adapter that it has saved. A server that loads an
adapter and answers as another model is worse than one that refuses it: both count as not servable.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

VLLM_LORA_RANKS: Final = (16, 32, 64, 128, 256, 320, 512)
"""What vLLM's --max-lora-rank may be, from its default of 16 upwards (vllm/config/lora.py, 0.32)."""

VLLM_OWN_STOPS: Final = "--generation-config"
"""With the adapter's folder: vLLM reads there at which tokens to stop, not in the base model (--override-generation-config does not
reach that)."""


class Trait(StrEnum):
    """What an adapter may have beyond plain LoRA matrices of one rank and scale."""

    DORA = "DoRA"
    ADALORA = "AdaLoRA"
    RSLORA = "rslora scaling"
    RANK_PATTERN = "ranks that differ between modules"
    ALPHA_PATTERN = "alphas that differ between modules"
    SOME_LAYERS = "layers without an adapter"
    WHOLE_MODULES = "whole modules (modulesToSave)"
    BIASES = "biases"
    TOKENS = "trained or added token embeddings"
    EXPERTS = "expert weights"
    HEAD = "a LoRA on the output head"
    CHANGED_BASE = "an initialisation that changes the base weights (PiSSA, OLoRA, CorDA, LoftQ)"
    ACTIVATED = "invocation tokens (aLoRA)"
    REPLICATED = "replicated layers"
    VARIANT = "another variant of LoRA (QALoRA, BD-LoRA, KaSA, Arrow, MonteCLoRA)"
    TEXT_PART = "a multimodal base model whose text part was trained alone"
    END = "an end of answers at which the base model does not stop"
    LARGE_RANK = f"a LoRA rank above {VLLM_LORA_RANKS[-1]}"


TEXT_ALONE: Final = ("llama4", "qwen3_5", "qwen3_5_moe")
"""model_type of multimodal models whose text part transformers loads alone. The layers of its adapters are called model.layers, and vLLM,
which loads the whole model, has them below language_model: it finds none, and says nothing (vllm/lora, 0.32; vllm-project/vllm#48019)."""

PLAIN_STARTS: Final = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
"""Values of init_lora_weights that set the first weights of the adapter alone. The others change the base's whenever PEFT loads it
(vllm/lora/peft_helper.py, 0.32)."""

VARIANTS: Final = ("use_qalora", "use_bdlora", "kasa_config", "arrow_config", "monteclora_config")
"""Keys of adapter_config.json with which B x A is not all of the update."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An inference server, and what it does with adapters that it cannot serve."""

    name: str
    version: str
    """The one that was tried or read."""
    source: str
    refuses: frozenset[Trait]
    """It does not load the adapter, and says so."""
    distorts: frozenset[Trait]
    """It loads the adapter and answers as another model."""
    takes_max_rank: bool = False
    """Started with --max-lora-rank, which must be at least the adapter's rank."""
    own_stops: str = ""
    """What makes it stop where the adapter was taught to and the base model does not."""


ENGINES: Final = (
    Engine(
        name="vllm",
        version="0.32",
        source="tried on the engine itself: tests/serving",
        refuses=frozenset(
            {
                Trait.DORA, Trait.ADALORA, Trait.WHOLE_MODULES, Trait.BIASES, Trait.TOKENS, Trait.EXPERTS, Trait.LARGE_RANK,
                Trait.CHANGED_BASE, Trait.ACTIVATED, Trait.REPLICATED, Trait.VARIANT,
            }
        ),
        distorts=frozenset({Trait.TEXT_PART}),
        takes_max_rank=True,
        own_stops=f"{VLLM_OWN_STOPS} FOLDER",
    ),
    Engine(
        name="sglang",
        version="0.5",
        source="python/sglang/srt/lora: lora_manager.py (validate_new_adapter), lora.py (scaling); sgl-project/sglang#40835",
        refuses=frozenset({Trait.DORA, Trait.ADALORA, Trait.TOKENS}),
        distorts=frozenset(
            {
                Trait.RSLORA, Trait.RANK_PATTERN, Trait.ALPHA_PATTERN, Trait.WHOLE_MODULES, Trait.BIASES, Trait.EXPERTS,
                Trait.CHANGED_BASE, Trait.ACTIVATED, Trait.REPLICATED, Trait.VARIANT,
            }
        ),
        takes_max_rank=True,
        own_stops="stop_token_ids in requests",
    ),
    Engine(
        name="tgi",
        version="3.3",
        source="server/text_generation_server/adapters/lora.py: r, lora_alpha, use_rslora, and the matrices of every layer",
        refuses=frozenset({Trait.RANK_PATTERN}),
        distorts=frozenset(
            {
                Trait.DORA, Trait.ADALORA, Trait.ALPHA_PATTERN, Trait.SOME_LAYERS, Trait.WHOLE_MODULES, Trait.BIASES,
                Trait.TOKENS, Trait.EXPERTS, Trait.CHANGED_BASE, Trait.ACTIVATED, Trait.REPLICATED, Trait.VARIANT, Trait.END,
            }
        ),
    ),
    Engine(
        name="llama.cpp",
        version="b11549",
        source="tried: convert_lora_to_gguf.py, then the engine; tests/serving",
        refuses=frozenset(
            {
                Trait.DORA, Trait.ADALORA, Trait.WHOLE_MODULES, Trait.BIASES, Trait.TOKENS, Trait.EXPERTS, Trait.HEAD,
                Trait.REPLICATED,
            }
        ),
        distorts=frozenset({Trait.RSLORA, Trait.ALPHA_PATTERN, Trait.CHANGED_BASE, Trait.VARIANT}),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Servable:
    """Whether one engine serves an adapter as it is."""

    engine: str
    option: str = ""
    """What it must be started with."""
    refuses: tuple[str, ...] = ()
    """What it does not load."""
    distorts: tuple[str, ...] = ()
    """What it leaves out without a word; empty where it refuses the adapter anyway."""

    @property
    def serves(self) -> bool:
        """It answers as the adapter does in PEFT."""
        return not self.refuses and not self.distorts

    @property
    def why_not(self) -> str:
        """Say why it does not serve the adapter; empty where it does."""
        if self.refuses:
            return f"does not load {', '.join(self.refuses)}"
        return f"ignores {', '.join(self.distorts)} and answers as another model" if self.distorts else ""


def base_traits(model_type: str) -> frozenset[Trait]:
    """Return what an adapter has because of its base model, named as config.json of the base does."""
    return frozenset({Trait.TEXT_PART} if model_type in TEXT_ALONE else ())


def servable_by(traits: Iterable[Trait], rank: int) -> tuple[Servable, ...]:
    """Return each engine's answer to an adapter with these traits, whose largest LoRA rank is `rank`."""
    found = frozenset(traits) | ({Trait.LARGE_RANK} if rank > VLLM_LORA_RANKS[-1] else frozenset())
    return tuple(_answer(engine, found, rank) for engine in ENGINES)


def _answer(engine: Engine, traits: frozenset[Trait], rank: int) -> Servable:
    refused, distorted = _words(traits & engine.refuses), _words(traits & engine.distorts)
    if refused:
        return Servable(engine=engine.name, refuses=refused)
    if distorted:
        return Servable(engine=engine.name, distorts=distorted)
    return Servable(engine=engine.name, option=_option(engine, traits, rank))


def _words(traits: frozenset[Trait]) -> tuple[str, ...]:
    return tuple(sorted(map(str, traits)))


def _option(engine: Engine, traits: frozenset[Trait], rank: int) -> str:
    least = max_lora_rank(rank)
    ranked = f"--max-lora-rank {least}" if engine.takes_max_rank and least > VLLM_LORA_RANKS[0] else ""
    return ", ".join(filter(None, (ranked, engine.own_stops if Trait.END in traits else "")))


def max_lora_rank(rank: int) -> int:
    """Return the least --max-lora-rank that holds an adapter of this rank; the rank itself where vLLM has no such size."""
    return next((size for size in VLLM_LORA_RANKS if size >= rank), rank)


def summary(answers: Iterable[Servable]) -> str:
    """Say in one line which engines serve the adapter, with what option, and which do not."""
    told = tuple(answers)
    serving = [f"{one.engine} ({one.option})" if one.option else one.engine for one in told if one.serves]
    others = [one.engine for one in told if not one.serves]
    if not serving:
        return f"merged only: {told[0].engine} {told[0].why_not}"
    return ", ".join(serving) + (f"; not {', '.join(others)}" if others else "")


def largest_rank(described: dict[str, Any]) -> int:
    """Return the largest LoRA rank of any module, as an adapter_config.json says it."""
    if described.get("peft_type") == "ADALORA":  # its pattern says which singular values are left, not a rank
        return int(described["target_r"])
    ranks: list[int] = list((described.get("rank_pattern") or {}).values())
    return max([int(described["r"]), *ranks])


def traits_of(described: dict[str, Any], tensors: Iterable[str] = ()) -> frozenset[Trait]:
    """Return the traits of an adapter, from its adapter_config.json and the names of the tensors beside it."""
    adalora, targets = described.get("peft_type") == "ADALORA", described.get("target_modules") or ()
    biased = bool(described.get("lora_bias")) or described.get("bias", "none") != "none"
    embeddings = any(name.endswith(("embed_tokens.weight", "lm_head.weight")) for name in tensors)
    table = (
        (bool(described.get("use_dora")), Trait.DORA),
        (adalora, Trait.ADALORA),
        (bool(described.get("use_rslora")), Trait.RSLORA),
        (bool(described.get("rank_pattern")) and not adalora, Trait.RANK_PATTERN),
        (bool(described.get("alpha_pattern")), Trait.ALPHA_PATTERN),
        (described.get("layers_to_transform") is not None, Trait.SOME_LAYERS),
        (bool(described.get("modules_to_save")), Trait.WHOLE_MODULES),
        (biased, Trait.BIASES),
        (bool(described.get("trainable_token_indices")), Trait.TOKENS),
        (embeddings and not described.get("modules_to_save"), Trait.TOKENS),
        (bool(described.get("target_parameters")), Trait.EXPERTS),
        (not isinstance(targets, str) and "lm_head" in targets, Trait.HEAD),
        (_changes_base(described.get("init_lora_weights")), Trait.CHANGED_BASE),
        (bool(described.get("alora_invocation_tokens")), Trait.ACTIVATED),
        (bool(described.get("layer_replication")), Trait.REPLICATED),
        (any(described.get(key) for key in VARIANTS), Trait.VARIANT),
    )
    return frozenset(trait for applies, trait in table if applies)


def _changes_base(start: Any) -> bool:
    return isinstance(start, str) and start.lower() not in PLAIN_STARTS
