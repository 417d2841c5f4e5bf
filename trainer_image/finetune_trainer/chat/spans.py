"""Which characters of a rendered conversation are learned. Works for any template, or refuses it with the reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from transformers.utils.chat_template_utils import (
    _compile_jinja_template as compiled_template,  # pinned version; render_jinja_template copies all data for each call
)
from transformers.utils.chat_template_utils import render_jinja_template

from finetune_trainer.chat.turns import Tokenizer, Turns
from finetune_trainer.errors import UserError

Message = dict[str, Any]
Tools = Sequence[Any] | None
PLAIN_KEYS = {"role", "content"}
"""Messages of these keys alone hold strings only, so the template may see them as they are."""
Span = tuple[int, int]


class RowRefused(Exception):
    """This row cannot be written with the template; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Messages and the tools they may call."""

    messages: Sequence[Message]
    tools: Tools = None
    first_learned: int = 0
    """Answers before this message are context only (the messages of a prompt)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """The text of a conversation and the parts of it that are learned."""

    text: str
    spans: tuple[Span, ...]


class Renderer:
    """Writes conversations with one template."""

    def __init__(self, tokenizer: Tokenizer, turns: Turns, train_on: str) -> None:
        if not turns.template:
            raise UserError(
                "ModelUnsupported",
                "the model's tokenizer has no chat template, so conversations cannot be written: set chat.template to "
                "chatml, or use an instruct model",
            )
        self._turns = turns
        self._train_on = train_on
        self._special_tokens = dict(tokenizer.special_tokens_map)
        self._fixed = {"tools": None, "documents": None, **self._special_tokens}
        self._compiled = compiled_template(turns.template)
        names = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        self._specials = tuple(sorted({*names, *tokenizer.all_special_tokens}))
        words = [tokenizer.convert_ids_to_tokens(index) for index in sorted(turns.stop_ids)]
        self._stops = tuple(word for word in words if word)

    def render(self, conversation: Conversation) -> Rendered:
        """Return text and learned spans. Raises RowRefused."""
        messages = conversation.messages
        text, marked = self._text(messages, conversation.tools, marks=self._turns.marks_answers)
        if self._train_on == "all":
            return Rendered(text=text, spans=(self._turn(text, 0, len(text)),))
        answers = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
        learned = [index for index in answers if index >= conversation.first_learned]
        if self._train_on == "last":
            learned = learned[-1:]
        if not learned:
            return Rendered(text=text, spans=())
        spans = self._marked(marked, answers) if self._turns.marks_answers else self._found(text, conversation, learned)
        return Rendered(text=text, spans=tuple(self._turn(text, *spans[index]) for index in learned))

    def _text(
        self, messages: Sequence[Message], tools: Tools, *, marks: bool = False, open_turn: bool = False
    ) -> tuple[str, list[Span]]:
        try:
            if not marks and not tools and all(message.keys() == PLAIN_KEYS for message in messages):
                return self._compiled.render(messages=messages, add_generation_prompt=open_turn, **self._fixed), []
            texts, spans = render_jinja_template(
                [list(messages)],
                tools=tools,
                chat_template=self._turns.template,
                return_assistant_tokens_mask=marks,
                add_generation_prompt=open_turn,
                **self._special_tokens,
            )
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise RowRefused(f"the chat template refuses it: {error}") from error
        return texts[0], spans[0] if spans else []

    def _marked(self, spans: list[Span], answers: list[int]) -> dict[int, Span]:
        if len(spans) != len(answers):
            raise RowRefused(
                f"the chat template marks {len(spans)} generated parts for {len(answers)} assistant messages, so they "
                "cannot be told apart: use chat.template chatml"
            )
        return dict(zip(answers, spans, strict=True))

    def _found(self, text: str, conversation: Conversation, learned: list[int]) -> dict[int, Span]:
        """Find answers by rendering the conversation up to each of them: what is added is the answer."""
        return {index: self._answer(text, conversation, index) for index in learned}

    def _answer(self, text: str, conversation: Conversation, index: int) -> Span:
        messages, tools = conversation.messages, conversation.tools
        before, _ = self._text(messages[:index], tools, open_turn=True)
        if not text.startswith(before):
            raise RowRefused(
                f"the chat template writes what comes before message {index + 1} differently once the answer is there, "
                "so the learned part cannot be told: use chat.trainOn: last, or chat.template: chatml"
            )
        verbatim = self._verbatim(text, messages[index], len(before))
        if verbatim:
            return verbatim
        through = text if index == len(messages) - 1 else self._text(messages[: index + 1], tools)[0]
        if text.startswith(through):
            return len(before), len(through)
        return self._located(text, messages[index], len(before))

    def _verbatim(self, text: str, message: Message, start: int) -> Span | None:
        """Most templates write an answer as it is and a stop token behind it: no further rendering is needed then."""
        content = message["content"]
        end = start + len(content)
        stop = self._stop_at(text, end)
        return (start, end + len(stop)) if stop and text.startswith(content, start) else None

    def _stop_at(self, text: str, position: int) -> str:
        return next((word for word in self._stops if text.startswith(word, position)), "")

    def _located(self, text: str, message: Message, start: int) -> Span:
        """Some templates write earlier answers without their reasoning: then the answer's own text is looked for."""
        content = str(message.get("content") or "").strip()
        position = text.find(content, start) if content else -1
        end = position + len(content)
        stop = self._stop_at(text, end)
        if position < 0 or not stop or any(word in text[start:position] for word in self._stops):
            raise RowRefused(
                "the chat template rewrites earlier answers, so the learned part cannot be told: use chat.trainOn: "
                "last, or chat.template: chatml"
            )
        return position, end + len(stop)

    def _turn(self, text: str, start: int, end: int) -> Span:
        """Let a span end exactly after the token that ends the turn: the line break behind it is not the model's."""
        stripped = len(text[:end].rstrip())
        if stripped > start and text[:stripped].endswith(self._specials):
            return start, stripped
        return start, end + len(self._stop_at(text, end))
