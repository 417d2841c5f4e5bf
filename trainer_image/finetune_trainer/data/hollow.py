"""Answers that say nothing: empty, or the word by which a program writes that a value is missing. Called by notices and corpus."""

import re
from collections import Counter
from collections.abc import Iterator

from finetune_trainer.chat.conversation import Message
from finetune_trainer.data.formats.rows import Row

NO_INPUT = ("<noinput>", "noinput", "no input")
"""What Alpaca's generators write."""

NULL_WORDS = (
    "nan", "none", "null", "nil", "<na>", "n/a", "n.a.", "#n/a", "<nan>", "<null>", "<none>", "<empty>", "undefined", "nat", "\\n",
    "[object object]", *NO_INPUT, "<nooutput>", "nooutput", "no output", "<noanswer>", "<no answer>", "<noresponse>", "<no response>",
    "<blank>", "<missing>",
)  # fmt: skip
"""What programs write where a value was missing: pandas, Python, JSON, JavaScript, the dumps of databases."""

FAILED_CELL = re.compile(r"#[A-Z][A-Z0-9_/]*[!?]|#N/[AD]|#NV|#{4,}")
"""What a spreadsheet shows where a formula failed: #N/A, #REF!, #DIV/0!, in German #NV and #WERT!."""

SHOWN_WORDS = 4
"""So many of such words a message names."""


class Hollow:
    """Counts rows whose answers say nothing, so that they can be told with those that have none at all."""

    def __init__(self) -> None:
        self.missing = 0
        """Rows that have no answer at all, which cannot be used."""
        self._empty = self._null = 0
        self._words: Counter[str] = Counter()

    def row(self, row: Row) -> None:
        """Take in a row that can be used."""
        said = list(answers_of(row))
        words = list(filter(is_null, said))
        self._empty += any(not one for one in said)
        self._null += bool(words) and all(said)
        self._words.update(words)

    def besides(self) -> str:
        """Say how many answers say nothing, for a refusal of rows that have another fault; empty without any."""
        empty = f"{self._empty} {'answer is' if self._empty == 1 else 'answers are'} empty" if self._empty else ""
        stand = "answer stands" if self._null == 1 else "answers stand"
        null = f"{self._null} {stand} for a missing value ({self._named()})" if self._null else ""
        told = " and ".join(filter(None, (empty, null)))
        return f". Also, {told}" if told and not self.missing else ""

    def told(self) -> str:
        """Say how many answers there are of each kind, and all together; empty unless several kinds are there."""
        if not self.missing or not self._empty + self._null:
            return ""
        null = f"{self._null} have one that stands for a missing value ({self._named()})" if self._null else ""
        beside = " and ".join(filter(None, (f"{self._empty} have an empty answer" if self._empty else "", null)))
        total = self.missing + self._empty + self._null
        return f". Of the other rows {beside}: with these {total} rows teach no answer"

    def _named(self) -> str:
        return ", ".join(list(self._words)[:SHOWN_WORDS])


def is_null(said: str) -> bool:
    """Tell whether an answer is the word by which a program writes a missing value or a failed formula."""
    return said.lower() in NULL_WORDS or FAILED_CELL.fullmatch(said) is not None


def answers_of(row: Row) -> Iterator[str]:
    """Yield what a row answers, without the blanks around it."""
    if not row.messages:
        yield from [row.text.strip()] if row.prompt else []
    for message in row.messages[row.first_learned :]:
        if _is_answer(message):
            yield (message["content"] or "").strip()


def _is_answer(message: Message) -> bool:
    return message["role"] == "assistant" and not message.get("tool_calls")
