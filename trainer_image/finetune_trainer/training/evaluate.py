"""Base and tuned model on the same held-out rows, on a general text, and side by side on prompts. Called by callbacks and train.

Losses are means over trained tokens, exact whatever the batch shapes and the number of processes: the libraries' evaluation
loops average over batches and count the rows that fill up the last one twice.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from typing import Any, Protocol

import torch
from transformers import PreTrainedTokenizerBase
from trl import SFTTrainer

from finetune_trainer.evaluation.results import Said
from finetune_trainer.evaluation.tasks.asked import Document
from finetune_trainer.runtime import ranks

GENERAL_TEXT = "general_text.txt"
"""Ships with this package: plain English that no fine-tune is about. A rising loss on it is forgetting."""

GENERAL_ROW_TOKENS = 256

Row = dict[str, Any]


class Rows(Protocol):
    """A list of rows, or a datasets.Dataset."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Row: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A model on a set of rows."""

    loss: float
    """nats per trained token"""
    token_accuracy: float
    """share of trained tokens that the model would have chosen"""

    @property
    def perplexity(self) -> float:
        """e to the loss; infinite where that is too large to write."""
        return math.exp(self.loss) if self.loss < 700 else math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What was measured of one model: on the held-out rows, on the general text, on the prompts."""

    held_out: Measurement | None
    general: Measurement | None
    samples: tuple[str, ...]
    said: tuple[Said, ...] = ()
    """To the questions of the metrics."""
    tasks: tuple[tuple[Document, ...], ...] = ()
    """Of lm-eval, one after the other."""


def measure(trainer: SFTTrainer, rows: Rows, *, keep_going: Callable[[], bool]) -> Measurement | None:
    """Measure the trainer's model as it is now; None where `keep_going` said no on the way. Every process must call it."""
    sums = torch.zeros(3, dtype=torch.float64)
    with evaluating(trainer) as model:
        for batch, counted in _my_batches(trainer, rows):
            if not keep_going():
                return None
            sums += _batch_sums(trainer, model, batch) * counted
    loss, correct, tokens = ranks.total(sums.tolist())
    return Measurement(loss=loss / max(tokens, 1), token_accuracy=correct / max(tokens, 1))


@contextmanager
def evaluating(trainer: SFTTrainer) -> Iterator[torch.nn.Module]:
    """Switch dropout and noise off and lend the model that can be called; switch back afterwards."""
    # Only a DeepSpeed engine can gather sharded weights; elsewhere the bare model spares DDP's bookkeeping.
    model = trainer.model_wrapped if trainer.is_deepspeed_enabled else trainer.model
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), trainer.accelerator.autocast():
            yield model
    finally:
        model.train(was_training)


def _my_batches(trainer: SFTTrainer, rows: Rows) -> Iterator[tuple[Row, int]]:
    """Yield this process's micro batches, each with 1, or with 0 where it only keeps the processes in step."""
    size = trainer.args.per_device_eval_batch_size
    starts = list(range(0, len(rows), size))
    processes = ranks.world_size()
    for turn in range(-(-len(starts) // processes)):
        mine = turn * processes + ranks.rank()
        start = starts[min(mine, len(starts) - 1)]
        chosen = [rows[index] for index in range(start, min(start + size, len(rows)))]
        yield trainer.data_collator([_plain(row) for row in chosen]), int(mine < len(starts))


def _plain(row: Row) -> Row:
    return {"input_ids": row["input_ids"], "labels": row["labels"]}


def _batch_sums(trainer: SFTTrainer, model: torch.nn.Module, batch: Row) -> torch.Tensor:
    """Return (sum of losses, right tokens, trained tokens) of one micro batch."""
    device = trainer.accelerator.device
    inputs = {name: value.to(device) if torch.is_tensor(value) else value for name, value in batch.items()}
    outputs = model(**inputs, use_cache=False, fused_lm_head=True)
    values = (-outputs.log_probs.float().sum(), outputs.is_top1.sum(), outputs.label_mask.sum())
    return torch.stack([value.detach().double().cpu() for value in values])


def general_rows(tokenizer: PreTrainedTokenizerBase, *, sequence_length: int) -> list[Row]:
    """Cut the general text into rows on which every token counts."""
    text = resources.files("finetune_trainer.training").joinpath(GENERAL_TEXT).read_text(encoding="utf-8")
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    length = min(sequence_length, GENERAL_ROW_TOKENS)
    pieces = [ids[start : start + length] for start in range(0, len(ids), length)]
    return [{"input_ids": piece, "labels": piece} for piece in pieces if len(piece) > 1]


@contextmanager
def without_adapter(trainer: SFTTrainer) -> Iterator[None]:
    """Let the trainer's model answer as its base does. Only for a model with an adapter."""
    with trainer.accelerator.unwrap_model(trainer.model).disable_adapter():
        yield


def prompt_ids(prompt: str, tokenizer: PreTrainedTokenizerBase, *, system: str, conversational: bool) -> list[int]:
    """Turn a prompt into token ids as the training rows were: through the chat template where they had one."""
    if not conversational:
        return list(tokenizer(prompt)["input_ids"])
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": prompt})
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
