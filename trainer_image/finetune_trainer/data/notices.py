"""What people should know of rows that are trained all the same: answers that say nothing, turns that are already rendered.

Called by prepare.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from finetune_trainer.chat.conversation import Message
from finetune_trainer.data.corpus import Placed
from finetune_trainer.data.formats.names import TURN_MARKS
from finetune_trainer.data.formats.rows import Row
from finetune_trainer.data.formats.transcripts import opening_mark
from finetune_trainer.data.hollow import answers_of, is_null
from finetune_trainer.data.misread import LOST, meant, misread

PLACEHOLDER = re.compile(
    r"(todo|tbd|tba|fixme|xxx+|lorem ipsum.*|placeholder|\?+|-+|\.{2,}|\u2026|"
    r"[\[<({]{1,2}\s*(your|the|insert|add|put|enter)?\s*(answer|response|completion|output|text|reply)( goes)?( here)?\s*[\]>)}]{1,2})",
    re.IGNORECASE | re.DOTALL,
)
"""What people write where the answer is still to come: TODO, [answer here], ???."""

MEDIA_MARK = re.compile(
    r"<(image|video|audio|image_\d|ImageHere|\|image\|)>|<\|(image|video|audio)_pad\|>|<\|image_\d+\|>"
)
"""How LLaVA, Qwen-VL, Phi and others mark the place of an image, a film or a sound."""

HTML = re.compile(
    r"</(p|div|span|a|li|ul|ol|b|i|em|strong|h[1-6]|td|tr|table|pre|code|blockquote)>|<br ?/?>|<p>|&(amp|lt|gt|quot|nbsp|#39|#x27);"
)
"""Ends of tags and entities, as exports of forums and shops leave them."""

PAGE = re.compile(r"```|`<|<html|<!doctype|<head|<body|<svg|<script|class=|function\b|=>", re.IGNORECASE)
"""What a text holds that is about HTML, or is code."""

SHOWN_WORDS = 6
"""So many different words a warning names."""

LONGEST_NULL = 16
"""So many characters of a question are looked at: such a word and what parts it from the text before it."""


class Notice:
    """Counts the rows of which something is true, or that hold certain words."""

    def __init__(self, found: Callable[[Row], bool | list[str]], meaning: str) -> None:
        self._holds = found
        self._meaning = meaning
        self._seen = self._found = 0
        self._first = ""
        self._words: dict[str, None] = {}

    def watched(self, rows: Iterable[Placed]) -> Iterator[Placed]:
        """Yield the rows as they are, and look at each on its way."""
        for placed in rows:
            self._seen += 1
            if found := self._holds(placed.row):
                self._found += 1
                if len(self._words) <= SHOWN_WORDS:
                    self._words.update(dict.fromkeys(found if isinstance(found, list) else ()))
                self._first = self._first or placed.place
            yield placed

    def warning(self) -> str:
        """Say how many there are, what it does and what to do; empty where there are none."""
        if not self._found:
            return ""
        share = f"{self._found} of {self._seen} rows ({100 * self._found / self._seen:.1f} %)"
        more = ", ..." if len(self._words) > SHOWN_WORDS else ""
        words = ", ".join(list(self._words)[:SHOWN_WORDS]) + more
        return share + " " + self._meaning.format(first=self._first, words=words)


def always_noticed() -> tuple[Notice, ...]:
    """Return what is looked for whatever the objective is."""
    return (
        empty_answers(),
        null_answers(),
        placeholders(),
        null_inputs(),
        misread_texts(),
        markup(),
        lost_characters(),
        media_marks(),
        unanswered(),
        told_tools(),
    )


def empty_answers() -> Notice:
    """An answer that says nothing: a cell that was left empty, a filter that cut too much."""
    return Notice(
        lambda row: any(not said for said in answers_of(row)),
        "have an empty answer, first {first}: the model learns to end its turn immediately. Remove these rows unless that "
        "is intended",
    )


def without_answer() -> Notice:
    """A conversation in which nobody answers, as sets for reinforcement learning have them."""
    return Notice(
        lambda row: bool(row.messages) and not any(_is_said_by_assistant(row)),
        "have no answer of the assistant, first {first}: nothing in them is learned. If a column holds the answer, name it by "
        "columns.completion, and the messages by columns.prompt",
    )


def unanswered() -> Notice:
    """A conversation whose last turn is a question, as in logs of chats that somebody left."""
    return Notice(
        lambda row: bool(row.messages) and row.messages[-1]["role"] == "user" and any(_is_said_by_assistant(row)),
        "end with a turn of the user that nobody answers, first {first}: nothing is learned of that turn. Add the answer, or remove "
        "the turn",
    )


def told_tools() -> Notice:
    """Tools that stand in the system prompt and in a column, as in Hermes' data."""
    return Notice(
        lambda row: row.told_tools,
        "hold their tools in the system prompt, too, first {first}: they are trained with that text, and the chat template does not write "
        "the tools again. If the model is served with tools, take them out of the system prompts: the template then writes them as it "
        "does when it is served",
    )


def null_answers() -> Notice:
    """An answer that is the word by which a program writes a missing value or a failed formula."""
    return Notice(
        lambda row: [said for said in answers_of(row) if is_null(said)],
        "have an answer that stands for a missing value ({words}), first {first}: the model learns to say it. Remove these rows "
        "unless it is intended",
    )


def null_inputs() -> Notice:
    """A question to which such a word was joined, as Alpaca's input after a trip through pandas."""
    return Notice(
        lambda row: [last for last in _last_parts(row) if is_null(last)],
        "have a question that ends with a word for a missing value ({words}), first {first}: the model reads that word. Empty such "
        "cells unless it is meant",
    )


def placeholders() -> Notice:
    """An answer that somebody meant to write later."""
    return Notice(
        lambda row: [said for said in answers_of(row) if PLACEHOLDER.fullmatch(said)],
        "have a placeholder in place of an answer ({words}), first {first}: the model learns to say it. Write the answers, or remove "
        "these rows",
    )


def misread_texts() -> Notice:
    """UTF-8 that a program took for Windows-1252 or Latin-1 and saved again."""
    return Notice(
        lambda row: [f"{word} for {meant(word)}" for word in filter(None, map(misread, _texts(row)))][:1],
        "hold text that was read with the wrong encoding and saved again ({words}), first {first}: the model learns to write so. "
        "Export these rows again as UTF-8, or repair their texts with fix_encoding of the Python package ftfy",
    )


def markup() -> Notice:
    """Text of a web page that still has its tags and entities; answers that hold a page or fenced code are meant to."""
    return Notice(
        lambda row: list(dict.fromkeys(mark for text in _texts(row) for mark in _marks_of_pages(text))),
        "hold HTML ({words}), first {first}: the model learns to write it. Take the tags out and turn the entities into characters "
        "(get_text of the Python package beautifulsoup4 does both), unless answers are to be HTML",
    )


def _marks_of_pages(text: str) -> Iterator[str]:
    return iter(()) if PAGE.search(text) else (mark[0] for mark in HTML.finditer(text))


def lost_characters() -> Notice:
    """Text of which some bytes could not be read when it was saved."""
    return Notice(
        lambda row: any(LOST in text for text in _texts(row)),
        f"hold {LOST}, which stands for a character that was lost, first {{first}}: the model learns to write it. Export these rows "
        "again with the right encoding, or remove them",
    )


def media_marks() -> Notice:
    """What stands where an image or a sound belongs, for models that see or hear."""
    return Notice(
        lambda row: list(dict.fromkeys(mark[0] for text in _texts(row) for mark in MEDIA_MARK.finditer(text))),
        "hold a mark for an image, a film or a sound ({words}), first {first}: only text is trained, so nothing stands in its place. "
        "Remove these rows, or the marks where the text makes sense without",
    )


def written_turns() -> Notice:
    """Plain text or a question in which a conversation was written out with somebody's template."""
    return Notice(
        lambda row: any(mark in text for text in _told(row) for mark in TURN_MARKS),
        "hold turns that are already rendered (such as <|im_start|> or ### Instruction:), first {first}: they are not "
        "split into turns. Where a column holds the whole conversation, name it in columns.messages: it is then split at these marks and "
        "rendered by the chat template. Otherwise put the conversation into a messages column",
    )


def marked_messages() -> Notice:
    """Messages whose texts still begin with the mark of somebody's template, such as ASSISTANT:."""
    return Notice(
        lambda row: [
            mark for message in _of_turns(row) if (mark := opening_mark(message["content"] or "", message["role"]))
        ],
        "hold messages that are already rendered: they begin with a mark of who speaks ({words}), first {first}. The chat template writes "
        "its own marks, so the model learns these as text. Take them out of the messages, and the ends of turns such as </s>",
    )


def _of_turns(row: Row) -> Sequence[Message]:
    """Messages of a list; a plain question with its answer is looked at by written_turns."""
    return () if row.first_learned else row.messages


def _is_said_by_assistant(row: Row) -> Iterator[bool]:
    return (message["role"] == "assistant" for message in row.messages[row.first_learned :])


def _last_parts(row: Row) -> Iterator[str]:
    """Yield what was joined last to each question."""
    asked = (message["content"] for message in row.messages if message["role"] == "user")
    for text in (row.prompt, *asked):
        yield text[-LONGEST_NULL:].rsplit("\n\n", 1)[-1].strip()


def _texts(row: Row) -> Iterator[str]:
    yield from filter(None, (row.prompt, row.text, *(message["content"] for message in row.messages)))


def _told(row: Row) -> Iterator[str]:
    yield from (row.prompt, row.text)
    if (
        row.first_learned
    ):  # of messages only what was a plain prompt: special tokens in the others are counted elsewhere
        yield from (message["content"] or "" for message in row.messages)
