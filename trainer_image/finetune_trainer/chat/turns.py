"""The chat template of a run: the tokenizer's own or chatml, the token that ends a turn, and one for padding."""

import re
from dataclasses import dataclass

from finetune_contract import Chat

from finetune_trainer.chat.dates import date_warning, pin_date
from finetune_trainer.chat.own_template import choose_template
from finetune_trainer.chat.stops import Tokenizer, base_stops, end_of_turn, next_turn
from finetune_trainer.errors import UserError

CHATML = (
    "{% for message in messages %}"
    "{% if message.tool_calls or tools %}{{ raise_exception('chatml does not support tools') }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + 'END' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + 'END' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
BEGINNING = "{{ bos_token }}"
CHATML_START, CHATML_END = "<|im_start|>", "<|im_end|>"
GENERATION_MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")
PADDING_NAMES = ("pad", "unk", "reserved", "endoftext", "unused", "extra")
"""Words in the names of tokens that no text contains: in this order they may stand for padding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """How this run writes conversations."""

    template: str
    """Jinja text; empty for a base model that trains on plain text or prompt and completion."""
    marks_answers: bool
    """The template itself says what the assistant generates."""
    base_stops: frozenset[int]
    """Tokens at which the base model stops."""
    end: int | None = None
    """The token with which the template ends an answer, where the base model does not stop there."""
    next_turn: str = ""
    """What ends an answer where the template writes nothing behind it: the token that opens the next question."""
    tool_template: str = ""
    """Of a tokenizer with several templates: the one for conversations with tools."""
    chatml: bool = False
    """The template is ours."""
    warnings: tuple[str, ...] = ()

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens at which generation ends."""
        return self.base_stops if self.end is None else self.base_stops | {self.end}


def ready_tokenizer(tokenizer: Tokenizer, chat: Chat) -> Turns:
    """Put the run's chat template and a padding token into the tokenizer and return what was decided.

    Raises UserError(ModelUnsupported) for a tokenizer that cannot say which characters a token covers.
    """
    if not tokenizer.is_fast:
        raise UserError(
            "ModelUnsupported",
            "the tokenizer has no tokenizer.json: save it with save_pretrained of transformers 5, which writes it",
        )
    if tokenizer.eos_token_id is None:
        raise UserError(
            "ModelUnsupported",
            "the tokenizer names no token that ends a text: set eos_token in its tokenizer_config.json, to the token that the model "
            "was trained with",
        )
    stops = base_stops(tokenizer)
    told: tuple[str, ...] = ()
    if chat.template == "chatml":
        tokenizer.chat_template, told = chatml(tokenizer, stops), marks_warning(tokenizer)
    choose_template(tokenizer, chat)
    template = tokenizer.get_chat_template() if tokenizer.chat_template else ""
    for text in filter(None, (template, *_by_name(tokenizer).values())):
        pin_date(text)
    end = end_of_turn(tokenizer, stops)
    choose_padding(tokenizer)
    warnings = (*told, *date_warning(template), *opening_warning(tokenizer))
    return Turns(
        template=template,
        marks_answers=bool(GENERATION_MARKER.search(template)),
        base_stops=stops,
        end=end,
        next_turn=next_turn(tokenizer, stops),
        tool_template=_by_name(tokenizer).get("tool_use", ""),
        chatml=chat.template == "chatml",
        warnings=warnings,
    )


def _by_name(tokenizer: Tokenizer) -> dict[str, str]:
    """Return the templates of a tokenizer that has several."""
    return tokenizer.chat_template if isinstance(tokenizer.chat_template, dict) else {}


def chatml(tokenizer: Tokenizer, stops: frozenset[int]) -> str:
    """Return the chatml template, ending turns with a token at which generation really stops.

    A base model seldom stops at <|im_end|>, and a new token would need new embeddings that an adapter does not carry:
    there the model's own end of text closes a turn.
    """
    vocabulary = tokenizer.get_vocab()
    spelled = {vocabulary[word]: word for word in (tokenizer.eos_token, CHATML_END) if vocabulary.get(word) in stops}
    end = list(spelled.values())[-1] if spelled else tokenizer.convert_ids_to_tokens(min(stops))
    return (BEGINNING if begins_with_bos(tokenizer) else "") + CHATML.replace("END", end)


def begins_with_bos(tokenizer: Tokenizer) -> bool:
    """Tell whether the model expects its beginning token: its tokenizer adds it to a text, or its own template writes it."""
    bos = tokenizer.bos_token
    if bos is None:
        return False
    if tokenizer.bos_token_id in tokenizer("")["input_ids"]:
        return True
    try:
        written = tokenizer.apply_chat_template([{"role": "user", "content": "1 + 1?"}], tokenize=False)
    except Exception:  # noqa: BLE001 - it has no template, or one that may do anything
        return False
    return str(written).lstrip().startswith(bos)


def marks_warning(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Warn where chatml's mark of a message is ordinary text to the model."""
    pieces = len(tokenizer(CHATML_START, add_special_tokens=False)["input_ids"])
    if pieces == 1:
        return ()
    own = ". The model's own template needs fewer rows" if tokenizer.chat_template else ""
    return (
        f"chatml begins each message with {CHATML_START}, which is not a token of this tokenizer: it is written as ordinary text of "
        f"{pieces} tokens, whose meaning the model has to learn{own}",
    )


def choose_padding(tokenizer: Tokenizer) -> None:
    """Give a tokenizer without a padding token a special token that no text contains; the end of a text where it has none.

    One that names a padding token keeps it, and publishes it, even if it also ends answers (Qwen's <|endoftext|>, Zephyr's </s>):
    padding is masked by its place in a batch, never by its token, so no end of an answer is masked with it.
    """
    if tokenizer.pad_token_id is not None:
        return
    taken = {tokenizer.bos_token_id, tokenizer.eos_token_id}
    spare = [
        token.content for index, token in tokenizer.added_tokens_decoder.items() if token.special and index not in taken
    ]
    named = (token for word in PADDING_NAMES for token in spare if word in token.lower())
    tokenizer.pad_token = next(named, tokenizer.eos_token)


def opening_warning(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Warn where an answer is asked for with words that the template leaves out once it is there (<think>, mostly)."""
    if not tokenizer.chat_template:
        return ()
    asked = [{"role": "user", "content": "1 + 1?"}]
    try:
        before, opened = (
            tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=opened)
            for opened in (False, True)
        )
        answered = tokenizer.apply_chat_template([*asked, {"role": "assistant", "content": "2"}], tokenize=False)
    except Exception:  # noqa: BLE001 - a template may do anything; the rows themselves will say what it refuses
        return ()
    if answered.startswith(opened):
        return ()
    return (
        f"the chat template asks for an answer with {opened.removeprefix(before)!r}, but writes answers without it: the "
        "tuned model will be prompted in a form that it was not trained on. Rows are trained as the template renders them",
    )
