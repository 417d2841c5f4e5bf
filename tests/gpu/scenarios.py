"""The runs of the check: models by their config, methods, batches. The report asks the planner about the same."""

from dataclasses import dataclass, replace
from typing import Any

from tests.simulated.cases import Case
from tests.simulated.models import MODELS

LLAMA_3B: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28, "num_attention_heads": 24,
    "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128256, "tie_word_embeddings": True, "max_position_embeddings": 32768,
}  # fmt: skip
"""Llama 3.2 3B; the other models are those of the simulated cases."""

TINY = {
    "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "vocab_size": 512,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One run on one GPU."""

    name: str
    case: Case
    padded: bool = False
    """Rows of different lengths, the longest as long as the case says."""
    tiny: bool = False
    """The widths of TINY instead of the model's own, for a CPU."""

    @property
    def config(self) -> dict[str, Any]:
        """Return its model's config.json."""
        known = LLAMA_3B if self.case.model == "llama-3.2-3b" else self.case.config()
        return {**known, "num_hidden_layers": self.case.layers, **(TINY if self.tiny else {})}


def _case(model: str, method: str, **values: Any) -> Case:
    depth = 28 if model == "llama-3.2-3b" else MODELS[model].layers
    return Case(
        model=model, method=method, **{"layers": depth, "sequence_length": 2048, "attention": "varlen", **values}
    )


ONE_B, THREE_B, EIGHT_B, MIXTRAL = "llama-3.2-1b", "llama-3.2-3b", "llama-3.1-8b", "mixtral-8x7b"

PLANNED: tuple[Scenario, ...] = (
    Scenario(name="8B lora", case=_case(EIGHT_B, "lora")),
    Scenario(name="8B qlora", case=_case(EIGHT_B, "qlora")),
    Scenario(name="8B lora, micro batch 4", case=_case(EIGHT_B, "lora", micro_batch_size=4)),
    Scenario(name="8B lora, padded rows", case=_case(EIGHT_B, "lora", micro_batch_size=4), padded=True),
    Scenario(name="8B lora, packed", case=_case(EIGHT_B, "lora", packing=True, sequence_length=8192)),
    Scenario(name="8B lora, stored activations", case=_case(EIGHT_B, "lora", activation_checkpointing=False)),
    Scenario(name="8B lora, 8k", case=_case(EIGHT_B, "lora", sequence_length=8192)),
    Scenario(name="8B qlora, 8k", case=_case(EIGHT_B, "qlora", sequence_length=8192)),
    Scenario(name="8B lora, rank 128", case=_case(EIGHT_B, "lora", lora_rank=128)),
    Scenario(name="3B full, float32 masters", case=_case(THREE_B, "full")),
    Scenario(name="3B full, bf16", case=_case(THREE_B, "full", precision="bf16")),
    Scenario(name="3B full, bf16, 8-bit", case=_case(THREE_B, "full", precision="bf16", optimizer="adamw-8bit")),
    Scenario(name="Mixtral of 4 layers, qlora", case=_case(MIXTRAL, "qlora", layers=4)),
    Scenario(name="Mixtral of 4 layers, lora", case=_case(MIXTRAL, "lora", layers=4)),
    Scenario(name="1B full, float32 masters", case=_case(ONE_B, "full", micro_batch_size=4)),
    Scenario(name="1B full, accumulation 4", case=_case(ONE_B, "full", accumulation=4)),
    Scenario(name="1B lora, padded rows", case=_case(ONE_B, "lora", micro_batch_size=4), padded=True),
    Scenario(name="1B lora, packed", case=_case(ONE_B, "lora", packing=True, sequence_length=8192)),
    Scenario(name="1B DoRA", case=_case(ONE_B, "lora", variant="dora")),
    Scenario(name="1B full, paged 8-bit", case=_case(ONE_B, "full", precision="bf16", optimizer="paged-adamw-8bit")),
)

LOADED: tuple[Scenario, ...] = (
    Scenario(name="8B qlora", case=_case(EIGHT_B, "qlora")),
    Scenario(name="Mixtral of 8 layers, qlora", case=_case(MIXTRAL, "qlora", layers=8)),
    Scenario(name="3B full, as at ZeRO-2", case=_case(THREE_B, "full", zero_stage=2)),
)

PADDED = Scenario(name="8B lora, padded rows", case=_case(EIGHT_B, "lora", micro_batch_size=4), padded=True)
PACKED = Scenario(name="8B lora, packed", case=_case(EIGHT_B, "lora", packing=True, sequence_length=8192))


def of_the_card(scenario: Scenario, *, reduced: bool) -> Scenario:
    """Return a scenario as it is run: on a CPU one narrow layer of its family, in rows of 64 tokens."""
    return (
        replace(scenario, tiny=True, case=replace(scenario.case, layers=1, sequence_length=64)) if reduced else scenario
    )
