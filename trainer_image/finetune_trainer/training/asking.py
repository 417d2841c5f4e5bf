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
from finetune_trainer.evaluation.tasks.asked import Continuation, Prompt
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


class StopAtText(StoppingCriteria):
    """Stops a row whose answer contains one of some texts: what comes after it is cut anyway."""

    def __init__(self, until: Sequence[str], tokenizer: Any, begins: int) -> None:
        self.until, self.tokenizer, self.begins = until, tokenizer, begins
        self.looked_at = max(len(text.encode()) for text in until) + 1
        """Tokens at the end in which a text that was just finished lies: each has a byte at least."""

    def __call__(self, input_ids: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        """Tell which rows have just said one of the texts."""
        ends = input_ids[:, max(self.begins, input_ids.shape[1] - self.looked_at) :].tolist()
        said = self.tokenizer.batch_decode(ends, skip_special_tokens=True)
        return torch.tensor([any(text in one for text in self.until) for one in said], device=input_ids.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interview:
    """The trainer's model as it is now, and how it is asked."""

    trainer: SFTTrainer
    at_once: int
    """Questions in one batch of generation."""
    max_new_tokens: int
    stops: tuple[int, ...]
    """Tokens that end an answer."""
    row_tokens: int
    """Of the longest training row."""
    beat: Callable[[], None]
    keep_going: Callable[[], bool]

    def answers(self, questions: Sequence[Question], evaluation: Evaluation) -> tuple[Said, ...] | None:
        """Return what the model says to each question; None where `keep_going` said no on the way. Every process calls it."""
        generating = [number for number, question in enumerate(questions) if is_generated(question, evaluation)]
        made = self.generate([questions[number].prompt for number in generating])
        labelled = [(number, label) for number, question in enumerate(questions) for label in question.labels]
        scores = None if made is None else self._dealt(
            _in_batches(labelled, self.trainer.args.per_device_eval_batch_size),
            lambda batch: self._likelihoods([_label_text(questions[number], label) for number, label in batch]),
        )  # fmt: skip
        if made is None or scores is None:
            return None
        texts = dict(zip(generating, made, strict=True))
        labels: dict[int, dict[str, float]] = {}
        for (number, label), (score, _) in scores.items():
            labels.setdefault(number, {})[label] = score
        return tuple(
            replace(texts.get(number, Said()), labels=labels.get(number, {})) for number in range(len(questions))
        )

    def generate(self, prompts: Sequence[Sequence[int]]) -> list[Said] | None:
        """Return the answer to each prompt (token ids), always the likeliest token; None as above. Every process calls it."""
        by_length = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
        made = self._dealt(
            _in_batches(by_length, self.at_once), lambda batch: self._generated([prompts[number] for number in batch])
        )
        return None if made is None else [self._said(*made[number]) for number in range(len(prompts))]

    def completions(self, prompts: Sequence[Prompt]) -> list[str] | None:
        """Return what each prompt is continued with, up to a text that ends it; None as above. Every process calls it.

        White space stays as it was said: tasks compare it.
        """
        by_kind: dict[tuple[int, tuple[str, ...]], list[int]] = {}
        for number in sorted(range(len(prompts)), key=lambda number: len(prompts[number].tokens)):
            by_kind.setdefault((prompts[number].max_new_tokens, prompts[number].until), []).append(number)
        batches = [batch for numbers in by_kind.values() for batch in _in_batches(numbers, self.at_once)]
        made = self._dealt(batches, lambda batch: self._completed([prompts[number] for number in batch]))
        return None if made is None else [made[number] for number in range(len(prompts))]

    def likelihoods(self, texts: Sequence[Continuation]) -> list[tuple[float, bool]] | None:
        """Return the log-probability of the end of each text, and whether it is the likeliest; None as above. Every process calls it."""
        longest_first = sorted(range(len(texts)), key=lambda number: -len(texts[number].tokens))
        batches = _by_tokens(longest_first, [len(text.tokens) for text in texts], self._tokens_at_once)
        made = self._dealt(batches, lambda batch: self._likelihoods([texts[number] for number in batch]))
        return None if made is None else [made[number] for number in range(len(texts))]

    @property
    def _tokens_at_once(self) -> int:
        """Tokens of a batch of training rows, which has room."""
        return int(self.trainer.args.per_device_eval_batch_size) * self.row_tokens

    def _dealt(
        self, batches: Sequence[Sequence[T]], answer: Callable[[Sequence[T]], Sequence[Any]]
    ) -> dict[T, Any] | None:
        """Answer all items, each process some batches; all get all answers. The last turn repeats a batch to stay in step."""
        mine: dict[T, Any] = {}
        with evaluating(self.trainer):
            for turn in range(-(-len(batches) // ranks.world_size())):
                if not self.keep_going():
                    return None
                batch = batches[min(turn * ranks.world_size() + ranks.rank(), len(batches) - 1)]
                mine |= dict(zip(batch, answer(batch), strict=True))
        return {item: said for part in ranks.gathered(mine) for item, said in part.items()}

    def _completed(self, prompts: Sequence[Prompt]) -> list[str]:
        """Answer prompts that end alike."""
        first, ids = prompts[0], [prompt.tokens for prompt in prompts]
        made = self._generated(ids, max_new_tokens=first.max_new_tokens, until=first.until)
        texts = [self._tokenizer.decode(tokens, skip_special_tokens=True) for tokens, _ in made]
        return [_before(text, first.until) for text in texts]

    def _generated(
        self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int = 0, until: Sequence[str] = ()
    ) -> list[tuple[list[int], bool]]:
        """Return the tokens of each answer, and whether it was cut."""
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        ids, mask = _left_padded(prompts, self._tokenizer.pad_token_id)
        device, stops = self.trainer.accelerator.device, self.stops
        ends = [StopAtText(until, self._tokenizer, ids.shape[1])] if until else []
        made = model.generate(
            input_ids=ids.to(device), attention_mask=mask.to(device), max_new_tokens=max_new_tokens or self.max_new_tokens,
            do_sample=False, temperature=None, top_p=None, top_k=None, use_cache=True, pad_token_id=self._tokenizer.pad_token_id,
            eos_token_id=list(stops), stopping_criteria=StoppingCriteriaList([BeatEachToken(self.beat), *ends]),
        )  # fmt: skip
        return [_until_stop(row, stops) for row in made[:, ids.shape[1] :].tolist()]

    def _likelihoods(self, texts: Sequence[Continuation]) -> list[tuple[float, bool]]:
        """Return the log-probability of each end, and whether all its tokens are the likeliest."""
        rows: list[Row] = [_scored_row(text) for text in texts]
        batch, device = self.trainer.data_collator(rows), self.trainer.accelerator.device
        inputs = {name: value.to(device) if torch.is_tensor(value) else value for name, value in batch.items()}
        model = self.trainer.model_wrapped if self.trainer.is_deepspeed_enabled else self.trainer.model
        outputs = model(**inputs, use_cache=False, fused_lm_head=True)
        # in the order of the rows, whether they are padded or lie end to end
        seen, lengths = outputs.label_mask.bool(), [text.scored for text in texts]
        scores = outputs.log_probs[seen].double().cpu().split(lengths)
        likeliest = outputs.is_top1[seen].bool().cpu().split(lengths)
        return [(float(part.sum()), bool(top.all())) for part, top in zip(scores, likeliest, strict=True)]

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


def _before(text: str, until: Sequence[str]) -> str:
    """Return a text up to the first that ends it."""
    for end in until:
        text = text.split(end, maxsplit=1)[0]
    return text


def _label_text(question: Question, label: str) -> Continuation:
    ends = question.labels[label]
    return Continuation(tokens=(*question.stem, *ends), scored=len(ends))


def _scored_row(text: Continuation) -> Row:
    ends = text.tokens[-text.scored :]
    return {"input_ids": list(text.tokens), "labels": [IGNORED] * (len(text.tokens) - text.scored) + list(ends)}


def _in_batches(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _by_tokens(longest_first: Sequence[int], lengths: Sequence[int], most: int) -> list[list[int]]:
    """Return batches of which none has more tokens than `most`, padded to its first; a longer text is alone."""
    batches: list[list[int]] = []
    for number in longest_first:
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= most:
            batches[-1].append(number)
        else:
            batches.append([number])
    return batches
