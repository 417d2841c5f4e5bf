"""Rows of a run become tokens, and what their reader should know is noticed on the way. Called by prepare."""

from collections.abc import Iterable, Iterator
from itertools import tee

from finetune_trainer.chat import Encoded, Encoder, Turns
from finetune_trainer.chat.conversation import RowRefused
from finetune_trainer.chat.turns import Tokenizer
from finetune_trainer.data.corpus import Placed
from finetune_trainer.data.literal_tokens import LiteralTokens
from finetune_trainer.data.notices import Notice, always_noticed, without_answer, written_turns
from finetune_trainer.data.request import DataRequest
from finetune_trainer.data.untelling import SameAnswer, coded_questions


class RowEncoder:
    """Encodes the rows of a run, and notices what their reader should know."""

    def __init__(self, tokenizer: Tokenizer, turns: Turns, request: DataRequest) -> None:
        self.without_answer = without_answer()
        learned_as_turns = [written_turns()] if request.objective == "sft" else []
        self._noticing: tuple[LiteralTokens | Notice | SameAnswer, ...] = (
            LiteralTokens(tokenizer),
            self.without_answer,
            *always_noticed(),
            coded_questions(),
            SameAnswer(),
            *learned_as_turns,
        )
        self._encoder = Encoder(tokenizer, turns, request.chat)
        self._encoded = self._abridged = 0

    def warnings(self) -> tuple[str, ...]:
        """Return what was noticed so far; empty texts where there was nothing."""
        abridged = (
            f"{self._abridged} of {self._encoded} rows: the chat template drops the reasoning of earlier answers, or their words "
            "beside tool calls, as it does when the model is served"
        )
        return (*(noticing.warning() for noticing in self._noticing), abridged if self._abridged else "")

    def encoded(self, rows: Iterable[Placed]) -> Iterator[Encoded | None]:
        """Encode rows in their order; None for a row that the template refuses, which is counted as invalid."""
        for noticing in self._noticing:
            rows = noticing.watched(rows)
        places, to_encode = tee(rows)
        for placed, result in zip(places, self._encoder.encode(one.row.to_encode() for one in to_encode), strict=True):
            if isinstance(result, RowRefused):
                placed.invalid.add(placed.file, placed.number, [str(result)])
                yield None
            else:
                self._encoded += 1
                self._abridged += result.abridged
                yield result
