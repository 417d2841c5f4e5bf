"""Rows of a run become tokens, and what their reader should know is noticed on the way. Called by prepare."""

from collections.abc import Iterable, Iterator
from itertools import tee

from finetune_trainer.chat import Encoded, Encoder, Turns
from finetune_trainer.chat.conversation import RowRefused
from finetune_trainer.chat.stops import Tokenizer
from finetune_trainer.data.corpus import Placed
from finetune_trainer.data.joints import Joints
from finetune_trainer.data.literal_tokens import LiteralTokens
from finetune_trainer.data.notices import Notice, always_noticed, marked_messages, without_answer, written_turns
from finetune_trainer.data.request import DataRequest
from finetune_trainer.data.untelling import SameAnswer, coded_questions


class RowEncoder:
    """Encodes the rows of a run, and notices what their reader should know."""

    def __init__(self, tokenizer: Tokenizer, turns: Turns, request: DataRequest) -> None:
        self.without_answer = without_answer()
        learned_as_turns = [written_turns(), marked_messages()] if request.objective == "sft" else []
        self._noticing: tuple[LiteralTokens | Notice | SameAnswer | Joints, ...] = (
            LiteralTokens(tokenizer, documents=request.objective == "cpt"),
            self.without_answer,
            *always_noticed(),
            coded_questions(),
            SameAnswer(),
            *learned_as_turns,
            *([] if turns.template else [Joints()]),
        )
        self._encoder = Encoder(tokenizer, turns, request.chat)
        self._tokenizer, self._turns = tokenizer, turns
        self._encoded = self._abridged = 0

    def warnings(self) -> tuple[str, ...]:
        """Return what was noticed so far; empty texts where there was nothing."""
        abridged = (
            f"{self._abridged} of {self._encoded} rows: the chat template drops the reasoning of earlier answers, or their words "
            "beside tool calls, as it does when the model is served"
        )
        noticed = (noticing.warning() for noticing in self._noticing)
        return (self._stops_warning(), *noticed, abridged if self._abridged else "")

    @property
    def learned_stops(self) -> tuple[int, ...]:
        """Return the tokens that end answers so far, and at which the base model does not stop."""
        return tuple(sorted(self._encoder.learned_stops))

    def _stops_warning(self) -> str:
        learned, known = (
            ", ".join(map(str, self._tokenizer.convert_ids_to_tokens(sorted(ids))))
            for ids in (self.learned_stops, self._turns.base_stops)
        )
        if not learned:
            return ""
        return (
            f"answers end with {learned}, but the base model stops only at {known}: the result is published with a "
            "generation_config.json that stops there, too. vLLM reads the base model's, so an adapter needs --generation-config with "
            "its own folder, which `finetune manifests` and `finetune serve` add"
        )

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
