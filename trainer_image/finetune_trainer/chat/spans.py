"""Which characters of a rendered conversation are learned. Works for any template, or refuses it with the reason."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import jinja2
from transformers.utils.chat_template_utils import (
    _compile_jinja_template as compiled_template,  # pinned version; render_jinja_template copies all data for each call
)
from transformers.utils.chat_template_utils import render_jinja_template

from finetune_trainer.chat.conversation import (
    SYSTEM_INTO_QUESTION,
    TOOL_TEMPLATE,
    Conversation,
    Message,
    RowRefused,
    Tools,
    calls_left_out,
    forms,
    is_abridged,
    left_out,
    tools_held,
)
from finetune_trainer.chat.roles import Roles
from finetune_trainer.chat.stops import Tokenizer
from finetune_trainer.chat.turns import GENERATION_MARKER, Turns
from finetune_trainer.errors import UserError

PLAIN_KEYS = {"role", "content"}
"""Messages of these keys alone hold strings only, so the template may see them as they are."""
Span = tuple[int, int]
REWRITES = (
    "the chat template rewrites earlier answers, so the part to learn cannot be determined: use chat.trainOn: last, or "
    "chat.template: chatml"
)
EMPTY = "an answer is empty, and the chat template writes nothing there that could be learned: remove the row, or write the answer"


CANNOT = (
    jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError,
)  # fmt: skip
"""What a template raises that cannot render a row: its own words, and those of Python for what it computes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """The text of a conversation and the parts of it that are learned."""

    text: str
    spans: tuple[Span, ...]
    abridged: bool = False
    """Reasoning of earlier answers, or their words beside tool calls, are left out."""


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
        self._compiled.globals = dict(self._compiled.globals)  # a ChainMap costs more than a short template
        self._tool_template = turns.tool_template or turns.template
        self._roles = Roles(turns.template)
        self._tool_roles = Roles(self._tool_template)
        names = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        self._specials = tuple(sorted({*names, *tokenizer.all_special_tokens}))
        words = [tokenizer.convert_ids_to_tokens(index) for index in sorted(turns.stop_ids)]
        self._stops = tuple(word for word in words if word)

    def render(self, conversation: Conversation) -> Rendered:
        """Return text and learned spans. Raises RowRefused."""
        roles = self._tool_roles if conversation.tools else self._roles
        known = roles.known(conversation)
        refusals: list[RowRefused] = []
        for form in forms(known):
            try:
                return self._rendered(form, roles)
            except RowRefused as refusal:
                refusals.append(refusal)
        raise refusals[0]

    def _rendered(self, conversation: Conversation, roles: Roles) -> Rendered:
        answers = [index for index, message in enumerate(conversation.messages) if message["role"] == "assistant"]
        learned = conversation.learned(self._train_on)
        marks = self._marks(conversation.tools)
        text, marked = self._text(conversation.messages, conversation.tools, marks=marks)
        if conversation.messages[-1]["role"] == "assistant":
            text += self._turns.next_turn
        if missing := left_out(conversation, text, learned):
            raise RowRefused(missing)
        if missing := roles.dropped(conversation, lambda messages: self._text(messages, conversation.tools)[0]):
            raise RowRefused(missing)
        if self._train_on == "all" and conversation.unlearned:
            raise RowRefused(
                "it takes answers out of the loss (weight, train), but chat.trainOn: all trains on everything: use assistant"
            )
        abridged = is_abridged(conversation, text, learned)
        if self._train_on == "all":
            return Rendered(text=text, spans=(self._turn(text, 0, len(text)),), abridged=abridged)
        if not learned:
            return Rendered(text=text, spans=(), abridged=abridged)
        # Some templates mark more than answers: what is marked cannot be told apart then.
        told = marks and len(marked) == len(answers)
        found = dict(zip(answers, marked, strict=True)) if told else self._found(text, conversation, learned)
        spans = {index: self._turn(text, *found[index]) for index in learned}
        for index, (start, end) in spans.items():
            if missing := calls_left_out(conversation.messages[index], text[start:end], conversation.number(index)):
                raise RowRefused(missing)
        return Rendered(text=text, spans=tuple(spans.values()), abridged=abridged)

    def _marks(self, tools: Tools) -> bool:
        """Tell whether the template itself says what the assistant generates."""
        return bool(GENERATION_MARKER.search(self._tool_template)) if tools else self._turns.marks_answers

    def _text(
        self, messages: Sequence[Message], tools: Tools, *, marks: bool = False, open_turn: bool = False
    ) -> tuple[str, list[Span]]:
        try:
            if not marks and not tools and all(message.keys() == PLAIN_KEYS for message in messages):
                return self._compiled.render(messages=messages, add_generation_prompt=open_turn, **self._fixed), []
            texts, spans = render_jinja_template(
                [list(messages)],
                tools=tools,
                chat_template=self._tool_template if tools else self._turns.template,
                return_assistant_tokens_mask=marks,
                add_generation_prompt=open_turn,
                **self._special_tokens,
            )
        except CANNOT as error:
            raise RowRefused(self._refused(messages, tools, error)) from error
        return texts[0], spans[0] if spans else []

    def _refused(self, messages: Sequence[Message], tools: Tools, error: Exception) -> str:
        held = tools_held(messages, tools)
        if held and (self._turns.chatml or "tool" not in self._tool_template):
            return (
                f"it holds {held}, which the chat template does not support ({error}): {TOOL_TEMPLATE}; if calls are not to be learned, "
                f"remove the {held}"
            )
        other = "" if held or self._turns.chatml else ", or set chat.template: chatml"
        remedy = SYSTEM_INTO_QUESTION if self._wants_no_system(messages, tools) else "correct or remove such rows"
        return f"the chat template refuses it: {error}; {remedy}{other}"

    def _wants_no_system(self, messages: Sequence[Message], tools: Tools) -> bool:
        """Tell whether the template writes the messages once the system text stands in front of the first question."""
        if [message["role"] for message in messages[:2]] != ["system", "user"]:
            return False
        try:
            self._text(messages[1:], tools)
        except RowRefused:
            return False
        return True

    def _found(self, text: str, conversation: Conversation, learned: list[int]) -> dict[int, Span]:
        """Find answers by rendering the conversation up to each of them: what is added is the answer."""
        return {index: self._answer(text, conversation, index) for index in learned}

    def _answer(self, text: str, conversation: Conversation, index: int) -> Span:
        messages, tools = conversation.messages, conversation.tools
        try:
            before, _ = self._text(messages[:index], tools, open_turn=True)
        except RowRefused:
            before = text + "\n"  # most templates refuse a conversation of no messages
        if index == 0 and not text.startswith(before):
            return self._greeting(text, messages[0], tools)
        if not text.startswith(before):
            return self._opened_otherwise(text, conversation, index)
        verbatim = self._verbatim(text, messages[index], len(before))
        if verbatim:
            return verbatim
        through = text if index == len(messages) - 1 else self._text(messages[: index + 1], tools)[0]
        if text.startswith(through):
            return len(before), len(through)
        return self._located(text, messages[index], len(before))

    def _greeting(self, text: str, message: Message, tools: Tools) -> Span:
        """A conversation that the assistant begins: templates do not write the empty one before it."""
        through, _ = self._text([message], tools)
        content = (message["content"] or "").strip()
        start = through.rfind(content)
        if not content or start < 0 or not text.startswith(through):
            raise RowRefused(
                "the chat template does not support a conversation that the assistant starts: remove message 1"
            )
        return start, len(through)

    def _opened_otherwise(self, text: str, conversation: Conversation, index: int) -> Span:
        """Some templates ask for an answer with words (such as <think>) that they leave out once it is there.

        DeepSeek's leave them out of every answer, so each can be learned. Qwen3.5's write them in the last one only: the
        earlier ones are not what the model is to say.
        """
        messages, tools = conversation.messages, conversation.tools
        earlier = any(message["role"] == "assistant" for message in messages[index + 1 :])
        before, _ = self._text(messages[:index], tools)
        as_last = self._text(messages[: index + 1], tools)[0] if earlier else text
        if not (text.startswith(before) and text.startswith(as_last)):
            raise RowRefused(
                f"the chat template writes what comes before message {conversation.number(index)} differently once the answer is there, "
                "so the part to learn cannot be determined: use "
                f"{'chat.trainOn: last, or ' if earlier else ''}chat.template: chatml"
            )
        return self._located(text, messages[index], len(before))

    def _verbatim(self, text: str, message: Message, start: int) -> Span | None:
        """Most templates write an answer as it is and a stop token behind it: no further rendering is needed then."""
        content = message["content"] or ""
        end = start + len(content)
        stop = self._stop_at(text, end)
        return (start, end + len(stop)) if stop and text.startswith(content, start) else None

    def _stop_at(self, text: str, position: int) -> str:
        return next((word for word in self._stops if text.startswith(word, position)), "")

    def _located(self, text: str, message: Message, start: int) -> Span:
        """Some templates write earlier answers without their reasoning: then the answer's own text is looked for."""
        content = (message["content"] or "").strip()
        if message.get("tool_calls"):
            return self._calls(text, message, content, start)
        if not content:
            raise RowRefused(EMPTY)
        position = text.find(content, start)
        end = position + len(content)
        stop = self._stop_at(text, end)
        if position < 0 or not stop or any(word in text[start:position] for word in self._stops):
            raise RowRefused(REWRITES)
        return position, end + len(stop)

    def _calls(self, text: str, message: Message, content: str, start: int) -> Span:
        """Calls are written in words of the template; what was called is known, and so is the token that ends the turn."""
        ends = sorted((text.find(word, start), word) for word in self._stops if word in text[start:])
        written = text[start : ends[0][0]] if ends else ""
        names = [str(call["function"]["name"]) for call in message["tool_calls"]]
        ambiguous = any(word in json.dumps(message, ensure_ascii=False) for word in self._stops)
        if ambiguous or not written or any(part not in written for part in (content, *names)):
            raise RowRefused(REWRITES)
        return start, ends[0][0] + len(ends[0][1])

    def _turn(self, text: str, start: int, end: int) -> Span:
        """Let a span end exactly after the token that ends the turn: the line break behind it is not the model's."""
        stripped = len(text[:end].rstrip())
        if stripped > start and text[:stripped].endswith(self._specials):
            return start, stripped
        return start, end + len(self._stop_at(text, end))
