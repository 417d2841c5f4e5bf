"""What an adapter is, read from its own adapter_config.json: a continued one differs from what the job's spec says.

Called by artifacts and card.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VLLM_LORA_RANKS = (16, 32, 64, 128, 256, 320, 512)
"""What vLLM's --max-lora-rank may be, from its default of 16 upwards (vllm/config/lora.py, 0.32)."""

ADVICE = "merge it into the base model with PEFT's merge_and_unload()"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFacts:
    """An adapter as PEFT describes it."""

    rank: int
    """The largest of any module."""
    alpha: int
    variant: str
    """standard | rslora | dora | adalora"""
    target_modules: tuple[str, ...]
    servable: str
    """vllm, perhaps with the option that it must be started with; or why vLLM cannot load it."""


def adapter_facts(folder: Path) -> AdapterFacts | None:
    """Read the adapter in a folder; None where there is none."""
    path = folder / "adapter_config.json"
    return facts_of(json.loads(path.read_text())) if path.is_file() else None


def facts_of(described: dict[str, Any]) -> AdapterFacts:
    """Return what an adapter_config.json says."""
    adalora = described.get("peft_type") == "ADALORA"
    rank = int(described["target_r"] if adalora else described["r"])
    # AdaLoRA's pattern says which singular values are left, not a rank.
    pattern = {} if adalora else described.get("rank_pattern") or {}
    rank = max([rank, *pattern.values()])
    targets = described.get("target_modules") or ()
    return AdapterFacts(
        rank=rank,
        alpha=int(described["lora_alpha"]),
        variant=_variant(described, adalora=adalora),
        target_modules=(targets,) if isinstance(targets, str) else tuple(sorted(targets)),
        servable=_refusal(described, rank=rank, adalora=adalora) or _vllm(rank),
    )


def _variant(described: dict[str, Any], *, adalora: bool) -> str:
    if adalora:
        return "adalora"
    if described.get("use_dora"):
        return "dora"
    return "rslora" if described.get("use_rslora") else "standard"


def _vllm(rank: int) -> str:
    """Return how vLLM serves an adapter of this rank: it reserves memory for --max-lora-rank at its start."""
    least = next(size for size in VLLM_LORA_RANKS if size >= rank)
    return "vllm" if least == VLLM_LORA_RANKS[0] else f"vllm, started with --max-lora-rank {least}"


def _refusal(described: dict[str, Any], *, rank: int, adalora: bool) -> str:
    """Return why vLLM 0.32 would not load the adapter, as it answered when it was tried; empty where it does."""
    if described.get("use_dora"):
        return f"not by vLLM: it does not support DoRA; {ADVICE}"
    if adalora:
        return f"not by vLLM: it does not support AdaLoRA; {ADVICE}"
    if whole := described.get("modules_to_save"):
        return f"not by vLLM: the adapter holds whole modules ({', '.join(sorted(whole))}); {ADVICE}"
    if described.get("target_parameters"):
        return f"not by vLLM: the adapter changes expert weights (target_parameters); {ADVICE}"
    if described.get("lora_bias") or described.get("bias", "none") != "none":
        return f"not by vLLM: the adapter holds biases; {ADVICE}"
    if described.get("trainable_token_indices"):
        return f"not by vLLM: the adapter holds token embeddings; {ADVICE}"
    largest = VLLM_LORA_RANKS[-1]
    return f"not by vLLM: LoRA rank {rank} is above its limit of {largest}; {ADVICE}" if rank > largest else ""
