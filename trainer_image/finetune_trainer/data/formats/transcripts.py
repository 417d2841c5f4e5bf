"""A conversation written out as one text, with the marks of a template or a script, is split at them where that is exact."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from finetune_trainer.chat.conversation import Message
from finetune_trainer.data.formats.names import ASSISTANT, SYSTEM, TOOL, USER

ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "</s>",
    "<eos>",
    "<eoh>",
    "<eoa>",
    "<eom>",
)
"""What templates write after a turn."""

BEGINNINGS = ("<|begin_of_text|>", "<bos>", "<s>")
AROUND = (*ENDS, *BEGINNINGS)
"""What stands between turns: the end of one, and the beginning of the next pair."""

INSTRUCTIONS = re.compile(r"<<SYS>>(.*?)<</SYS>>", re.DOTALL)
"""Llama 2 keeps the system prompt in the first question."""

SPEAKERS = {
    "system": SYSTEM, "user": USER, "human": USER, "assistant": ASSISTANT, "model": ASSISTANT, "ai": ASSISTANT, "gpt": ASSISTANT,
    "bot": ASSISTANT, "functionresponse": TOOL, "tool": TOOL, "ipython": TOOL, "instruction": USER, "input": "input",
    "response": ASSISTANT, "moss": ASSISTANT, "[inst]": USER, "[/inst]": ASSISTANT,
}  # fmt: skip
MAY_FOLLOW = {
    "": (SYSTEM, USER), SYSTEM: (USER,), USER: (ASSISTANT, "input"), "input": (ASSISTANT,), ASSISTANT: (USER, TOOL),
    TOOL: (ASSISTANT,),
}  # fmt: skip
"""Turns in another order were not written by turns: a mark stands inside of what somebody said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How one template or script marks who speaks."""

    mark: re.Pattern[str]
    introduced: bool = False
    """What stands before the first mark is the system prompt."""


STYLES = (
    Style(mark=re.compile(r"<\|im_start\|>(system|user|assistant|tool)\n")),
    Style(mark=re.compile(r"<\|start_header_id\|>(system|user|assistant|ipython)<\|end_header_id\|>\n\n?")),
    Style(mark=re.compile(r"<start_of_turn>(user|model)\n")),
    Style(mark=re.compile(r"<\|(system|user|assistant)\|>")),
    Style(mark=re.compile(r"(\[/?INST\])")),
    Style(mark=re.compile(r"\[(Human|MOSS)\]:")),
    Style(mark=re.compile(r"### ?(System|Human|User|Instruction|Input|Assistant|Response):"), introduced=True),
    Style(mark=re.compile(r"(?<![^\s>])(SYSTEM|USER|ASSISTANT|FUNCTION RESPONSE):"), introduced=True),
    Style(mark=re.compile(r"(?:^|(?<=\n))(System|User|Human|HUMAN|Assistant|AI|GPT|Bot):")),
)


def written_out(text: str) -> list[Message] | None:
    """Return the messages of a conversation that is written out; None where it is none, or cannot be split with certainty."""
    text = _without(text.strip(), AROUND)
    return next(filter(None, (_split(text, style) for style in STYLES)), None)


def opening_mark(text: str, role: str) -> str:
    """Return the mark with which a message of a role begins, such as `ASSISTANT:`; empty where it has none."""
    text = _without(text.strip(), BEGINNINGS)
    marks = (mark for style in STYLES if (mark := style.mark.match(text)))
    return next((mark[0].strip() for mark in marks if SPEAKERS[mark[1].lower().replace(" ", "")] == role), "")


def _split(text: str, style: Style) -> list[Message] | None:
    marks = list(style.mark.finditer(text))
    if not marks or (marks[0].start() and not style.introduced):
        return None
    turns = [(SYSTEM, text[: marks[0].start()].strip()), *_turns(text, marks)]
    turns = [(role, said) for number, (role, said) in enumerate(turns) if number or said]
    roles = [role for role, _ in turns]
    in_order = all(role in MAY_FOLLOW[before] for before, role in zip(["", *roles], roles, strict=False))
    if not in_order or roles[-1] != ASSISTANT or not all(said for role, said in turns if role in (USER, ASSISTANT)):
        return None
    return _messages(turns)


def _turns(text: str, marks: list[re.Match[str]]) -> Iterator[tuple[str, str]]:
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        role = SPEAKERS[mark[1].lower().replace(" ", "")]
        said = _without(text[mark.end() : following.start() if following else len(text)].strip(), AROUND)
        instructions = INSTRUCTIONS.match(said) if role == USER else None
        if instructions:
            yield SYSTEM, instructions[1].strip()
            said = said[instructions.end() :].strip()
        yield role, said


def _messages(turns: list[tuple[str, str]]) -> list[Message]:
    messages: list[Message] = []
    for role, said in turns:
        if role != "input":
            messages.append({"role": role, "content": said})
        elif said:
            messages[-1]["content"] += f"\n\n{said}"
    return messages


def _without(text: str, tokens: tuple[str, ...]) -> str:
    """Take tokens away that begin or end a text, also several of them."""
    while token := next((one for one in tokens if text.startswith(one) or text.endswith(one)), ""):
        text = text.removeprefix(token).removesuffix(token).strip()
    return text
