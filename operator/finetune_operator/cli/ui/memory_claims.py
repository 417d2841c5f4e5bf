"""What popular comparisons of LoRA, QLoRA and full fine-tuning claim, with our figure beside.

`python -m finetune_operator.cli.ui.memory_claims` prints the table of docs/vram-model.md: the card of one GPU at its peak, our trainer.
"""

import functools
from dataclasses import dataclass, replace

from finetune_operator.planning.memory.estimate import estimate
from finetune_operator.planning.memory.our_trainer import TrainerLayout, scenario_for
from finetune_operator.planning.models.adapter import Adapter
from finetune_operator.planning.models.catalogue import model_named

LORA = TrainerLayout(method="lora", adapter=Adapter(lora_rank=16), sequence_length=2048, attention="varlen")
QLORA = replace(LORA, method="qlora")
FULL = replace(LORA, method="full", adapter=None, precision="mixed")
BF16 = replace(FULL, precision="bf16")
ATTENTION = Adapter(lora_rank=16, targets="attention")
L70, L8, Q32 = "meta-llama/Llama-3.1-70B", "meta-llama/Llama-3.1-8B", "Qwen/Qwen2.5-32B"


def short(layout: TrainerLayout) -> TrainerLayout:
    """Take the rows of the shortest of the comparisons."""
    return replace(layout, sequence_length=512, micro_batch_size=4)


def zero3(layout: TrainerLayout, gpus: int) -> TrainerLayout:
    """Shard everything over so many GPUs."""
    return replace(layout, zero_stage=3, gpus=gpus)


@dataclass(frozen=True, slots=True)
class Claim:
    """One row: who says what, and the layouts that answer it."""

    who: str
    says: str
    model: str
    layouts: tuple[tuple[str, TrainerLayout], ...]
    why: str


CLAIMS = (
    Claim("Digital Dashboard Hub", "70B LoRA ~140 GB, two H100s", L70,
          (("2 GPUs", zero3(LORA, 2)), ("4 GPUs", zero3(LORA, 4)), ("8 GPUs", zero3(LORA, 8))),
          "the bf16 weights alone are 131 GiB; gathers, NCCL and the margin require the third and fourth card"),
    Claim("Digital Dashboard Hub", "70B LoRA with ZeRO-2 on two H100s", L70,
          (("2 GPUs, ZeRO-2", replace(LORA, zero_stage=2, gpus=2)),),
          "ZeRO-2 shards gradients and optimizer, not weights: every card holds all of them"),
    Claim("Digital Dashboard Hub", "70B QLoRA ~48 GB, one H100", L70,
          (("2,048 tokens", QLORA), ("8,192 tokens", replace(QLORA, sequence_length=8192))),
          "plausible; it grows by 2 s b h L with the length, which the claim does not name"),
    Claim("Digital Dashboard Hub", "70B full ~960 GB, eight H100s", L70,
          (("8 GPUs", zero3(FULL, 8)), ("16 GPUs", zero3(FULL, 16)), ("24 GPUs", zero3(FULL, 24))),
          "8 x 80 GB are 640 GB; float32 masters, moments, weights and gradients are 16 bytes a parameter = 1,129 GB"),
    Claim("Digital Dashboard Hub", "Qwen 32B full, four H100s suffice", Q32,
          (("4 GPUs", zero3(FULL, 4)), ("8 GPUs", zero3(FULL, 8)), ("16 GPUs", zero3(FULL, 16))),
          "16 bytes x 32.8e9 = 524 GB against 320"),
    Claim("at-a-glance comparison", "8B LoRA on an A100 of 40 or 80 GB; QLoRA on 24 GB", L8,
          (("LoRA", LORA), ("QLoRA", QLORA)), "both right, with room for longer rows"),
    Claim("at-a-glance comparison", "8B full on 4 x A100 80 or 2 x H100 80", L8,
          (("4 GPUs", zero3(FULL, 4)), ("2 GPUs", zero3(FULL, 2))),
          "320 GB and 160 GB for one job: the first is right; the second cannot hold the states with margin"),
    Claim("NeuralPulse", "8B LoRA, 18 GB, on a 4090", L8,
          (("4 x 512", short(LORA)),), "right where the loss never builds the logits, as ours does not"),
    Claim("NeuralPulse", "70B QLoRA on 24 GB with offload, or 40 GB", L70,
          (("512 tokens", replace(QLORA, sequence_length=512)),),
          "NF4 weights with 16-bit embeddings are 37 GiB before a single token"),
    Claim("GigaGPU", "8B full 80 / LoRA 28 / QLoRA 14 GB", L8,
          (("full, bf16", short(BF16)), ("full, masters", short(FULL)),
           ("LoRA", short(replace(LORA, adapter=ATTENTION))), ("QLoRA", short(replace(QLORA, adapter=ATTENTION)))),
          "full is pure bf16 with AdamW's unfused temporary; adapters are 1.4 to 1.8 times too high"),
    Claim("GigaGPU", "70B full 700 / LoRA 180 / QLoRA 52 GB", L70,
          (("full, bf16", short(BF16)), ("LoRA", short(replace(LORA, adapter=ATTENTION))),
           ("QLoRA", short(replace(QLORA, adapter=ATTENTION)))),
          "as above; a single card of that size does not exist"),
    Claim("BearPlex", "70B QLoRA on one card of 24 GB", L70,
          (("512 tokens", replace(QLORA, sequence_length=512)),), "impossible; its own FAQ says 48 GB, which is right"),
)  # fmt: skip


def figures(claim: Claim) -> str:
    """Return our figures for a claim."""
    shape = model_named(claim.model)
    assert shape is not None
    found = [(name, estimate(scenario_for(shape, layout))) for name, layout in claim.layouts]
    return "; ".join(f"{name} **{rounded(one.card_gib)}**" for name, one in found)


@functools.cache
def rows() -> tuple[dict[str, str], ...]:
    """Return the rows for a page."""
    return tuple(
        {"who": claim.who, "claim": claim.says, "ours": plain(figures(claim)), "why": claim.why} for claim in CLAIMS
    )


def plain(markdown: str) -> str:
    """Return figures without the marks that make them bold."""
    return markdown.replace("**", "")


def rounded(gib: float) -> str:
    """Write whole numbers from 30 GiB on."""
    return f"{gib:.0f}" if gib >= 30 else f"{gib:.1f}"


def table() -> list[str]:
    """Return the rows in markdown."""
    heads = ["| who | claim | ours, GiB per GPU | why it differs |", "|---|---|---|---|"]
    return heads + [f"| {claim.who} | {claim.says} | {figures(claim)} | {claim.why} |" for claim in CLAIMS]


if __name__ == "__main__":
    print("\n".join(table()))
