"""Let a model answer questions: by generating, several at once, and by the likelihood of labels. Called by held_out.

Batches are dealt to the processes, which stay in step: all of them gather sharded weights at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from finetune_contract import Evaluation
from transformers import StoppingCriteria, StoppingCriteriaList
from trl import SFTTrainer

from finetune_trainer.chat.encoding import IGNORED
from finetune_trainer.evaluation.questions import Question
from finetune_trainer.evaluation.results import Said, is_generated
from finetune_trainer.runtime import ranks
from finetune_trainer.training.evaluate import Row, evaluating

T = TypeVar("T")


class BeatEachToken(StoppingCriteria):
    """A token is a sign of life: with sharded weights one answer can take minutes. Never stops anything."""

    def __init__(self, beat: Callable[[], None]) -> None:
        self.beat = beat

    def __call__(self, input_ids: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        """Beat, and stop no row."""
        self.beat()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interview:
    """The trainer's model as it is now, and how it is asked."""

    trainer: SFTTrainer
    at_once: int
    """Questions in one batch of generation."""
    max_new_tokens: int
    stops: tuple[int, ...]
    """Tokens that end an answer."""
    beat: Callable[[], None]
    keep_going: Callable[[], bool]

    def answers(self, questions: Sequence[Question], evaluation: Evaluation) -> tuple[Said, ...] | None:
        """Return what the model says to each question; None where `keep_going` said no on the way. Every process calls it."""
        generating = [number for number, question in enumerate(questions) if is_generated(question, evaluation)]
        made = self.generate([questions[number].prompt for number in generating])
        labelled = [(number, label) for number, question in enumerate(questions) for label in question.labels]
        scores = None if made is None else self._dealt(
            labelled, self.trainer.args.per_device_eval_batch_size,
            lambda batch: self._likelihoods([(questions[number], label) for number, label in batch]),
        )  # fmt: skip
        if made is None or scores is None:
            return None
        texts = dict(zip(generating, made, strict=True))
        labels: dict[int, dict[str, float]] = {}
        for (number, label), score in scores.items():
            labels.setdefault(number, {})[label] = score
        return tuple(
            replace(texts.get(number, Said()), labels=labels.get(number, {})) for number in range(len(questions))
        )

    def generate(self, prompts: Sequence[Sequence[int]]) -> list[Said] | None:
        """Return the answer to each prompt (token ids), always the likeliest token; None as above. Every process calls it."""
        by_length = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
        made = self._dealt(
            by_length, self.at_once, lambda batch: self._generated([prompts[number] for number in batch])
        )
        return None if made is None else [made[number] for number in range(len(prompts))]

    def _dealt(
        self, items: Sequence[T], size: int, answer: Callable[[Sequence[T]], Sequence[Any]]
    ) -> dict[T, Any] | None:
        """Answer all items, each process some batches; all get all answers. The last turn repeats a batch to stay in step."""
        batches = [items[start : start + size] for start in range(0, len(items), size)]
        mine: dict[T, Any] = {}
        with evaluating(self.trainer):
            for turn in range(-(-len(batches) // ranks.world_size())):
                if not self.keep_going():
                    return None
                batch = batches[min(turn * ranks.world_size() + ranks.rank(), len(batches) - 1)]
                mine |= dict(zip(batch, answer(batch), strict=True))
        return {item: said for part in ranks.gathered(mine) for item, said in part.items()}

    def _generated(self, prompts: Sequence[Sequence[int]]) -> list[Said]:
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        ids, mask = _left_padded(prompts, self._tokenizer.pad_token_id)
        device, stops = self.trainer.accelerator.device, self.stops
        made = model.generate(
            input_ids=ids.to(device), attention_mask=mask.to(device), max_new_tokens=self.max_new_tokens, do_sample=False,
            temperature=None, top_p=None, top_k=None, use_cache=True, pad_token_id=self._tokenizer.pad_token_id,
            eos_token_id=list(stops), stopping_criteria=StoppingCriteriaList([BeatEachToken(self.beat)]),
        )  # fmt: skip
        return [self._said(*_until_stop(row, stops)) for row in made[:, ids.shape[1] :].tolist()]

    def _likelihoods(self, pairs: Sequence[tuple[Question, str]]) -> list[float]:
        """Return the log-probability of each label after the stem of its question."""
        rows: list[Row] = [_label_row(question, label) for question, label in pairs]
        batch, device = self.trainer.data_collator(rows), self.trainer.accelerator.device
        inputs = {name: value.to(device) if torch.is_tensor(value) else value for name, value in batch.items()}
        model = self.trainer.model_wrapped if self.trainer.is_deepspeed_enabled else self.trainer.model
        outputs = model(**inputs, use_cache=False, fused_lm_head=True)
        # in the order of the rows, whether they are padded or lie end to end
        found = outputs.log_probs[outputs.label_mask.bool()].double().cpu()
        return [float(part.sum()) for part in found.split([len(question.labels[label]) for question, label in pairs])]

    def _said(self, tokens: Sequence[int], cut: bool) -> Said:
        text, raw = (self._tokenizer.decode(tokens, skip_special_tokens=skip) for skip in (True, False))
        return Said(text=text.strip(), raw=raw, cut=cut)

    @property
    def _tokenizer(self) -> Any:
        return self.trainer.processing_class


def _left_padded(prompts: Sequence[Sequence[int]], padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and mask: answers begin where all prompts end."""
    width = max(len(prompt) for prompt in prompts)
    ids = [[padding] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids), torch.tensor(mask)


def _until_stop(tokens: Sequence[int], stops: Sequence[int]) -> tuple[list[int], bool]:
    """Return the tokens before the first that ends an answer, and whether there is none."""
    end = next((position for position, token in enumerate(tokens) if token in stops), len(tokens))
    return list(tokens[:end]), end == len(tokens)


def _label_row(question: Question, label: str) -> Row:
    ends = question.labels[label]
    return {"input_ids": [*question.stem, *ends], "labels": [IGNORED] * len(question.stem) + list(ends)}
