"""How near two models' next-token distributions are, over the same tokens. Called by export; nothing is published that disagrees."""

from dataclasses import dataclass
from importlib import resources

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from finetune_trainer.errors import UserError

TOKENS, ROW = 256, 64
"""Of the general text that ships with the trainer, in rows of so many: a forward pass of a large model on a CPU takes its time."""

ROUNDING = 5e-3
"""Mean Kullback-Leibler divergence in nats that 16-bit rounding of weights and activations may cause by itself."""

SHARE = 0.1
"""Of the divergence between base and tuned model: a merge that loses a part of the adapter is farther away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What was compared."""

    tokens: int
    divergence: float
    """Mean over tokens, in nats."""
    same_token: float
    """Share of the tokens after which both find the same one likeliest."""

    def __str__(self) -> str:
        return f"{self.tokens} tokens, mean divergence {self.divergence:.1e} nats, same next token {self.same_token:.0%}".replace(
            "%", " %"
        )


def rows(tokenizer: PreTrainedTokenizerBase, prompts: tuple[str, ...] = ()) -> list[list[int]]:
    """Return the tokens to compare on: the job's own prompts first, then the general text."""
    text = resources.files("finetune_trainer.training").joinpath("general_text.txt").read_text(encoding="utf-8")
    ids = [tokenizer(prompt, add_special_tokens=False)["input_ids"][:ROW] for prompt in prompts]
    general = tokenizer(text, add_special_tokens=False)["input_ids"]
    ids += [general[start : start + ROW] for start in range(0, len(general), ROW)]
    kept: list[list[int]] = []
    for row in ids:
        if len(row) > 1 and sum(map(len, kept)) < TOKENS:
            kept.append(row)
    return kept


@torch.inference_mode()
def log_probabilities(model: PreTrainedModel, tokens: list[list[int]]) -> list[torch.Tensor]:
    """Return the distributions over the next token, row by row, in float32."""
    return [torch.log_softmax(model(torch.tensor([row])).logits[0].float(), dim=-1) for row in tokens]


def agreement(wanted: list[torch.Tensor], found: list[torch.Tensor]) -> Agreement:
    """Compare two models' distributions."""
    first, second = torch.cat(wanted), torch.cat(found)
    divergence = torch.nn.functional.kl_div(second, first, reduction="batchmean", log_target=True)
    same = (first.argmax(-1) == second.argmax(-1)).float().mean()
    return Agreement(tokens=len(first), divergence=max(0.0, float(divergence)), same_token=float(same))


def assert_merged(base: list[torch.Tensor], tuned: list[torch.Tensor], merged: list[torch.Tensor]) -> Agreement:
    """Return how the merged model agrees with base and adapter. Raises UserError(ExportFailed) where it does not."""
    found, effect = agreement(tuned, merged), agreement(tuned, base).divergence
    allowed = max(ROUNDING, SHARE * effect)
    if not found.divergence <= allowed:
        raise UserError(
            "ExportFailed",
            f"the merged model does not answer as base and adapter do ({found}; at most {allowed:.1e} nats were allowed, and the "
            "adapter itself changes the base by "
            f"{effect:.1e}): it is not published. Serve the adapter with PEFT, and report this as a bug",
        )
    return found
