"""Special tokens that stand in what somebody said: the tokenizer makes real ones of them. Counted by prepare, never altered.

A server tokenises a conversation in the same way, so rows that were rewritten here would teach another text than it answers.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from finetune_trainer.chat.stops import Tokenizer
from finetune_trainer.data.corpus import Placed

NAMED_TOKENS = 3
"""So many different tokens a warning names: it shares 4,096 bytes with the rest of the report."""

WORDS_OF_THE_FORM = ("role", "type")
"""Keys of messages and tools whose values are no text of anybody's."""


class LiteralTokens:
    """Counts the rows of conversations, or the documents of a corpus, whose text holds special tokens of the model."""

    def __init__(self, tokenizer: Tokenizer, *, documents: bool = False) -> None:
        self._documents = documents
        named = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        words = sorted({*named, *tokenizer.all_special_tokens} - {""}, key=lambda word: (-len(word), word))
        self._pattern = re.compile("|".join(map(re.escape, words))) if words else None
        self._seen = self._found = self._learned = self._times = 0
        self._rows_with: Counter[str] = Counter()
        self._first = ""

    def watched(self, rows: Iterable[Placed]) -> Iterator[Placed]:
        """Yield the rows as they are, and look at each on its way."""
        for placed in rows:
            self._look(placed)
            yield placed

    def warning(self) -> str:
        """Say how many rows, which tokens, where the first is, what it does and what to do; empty where there are none."""
        if not self._found:
            return ""
        named = [f"{word} in {rows}" for word, rows in self._rows_with.most_common(NAMED_TOKENS)]
        more = f" and {len(self._rows_with) - NAMED_TOKENS} more" if len(self._rows_with) > NAMED_TOKENS else ""
        if self._documents:
            return (
                f"{self._found} of {self._seen} documents ({100 * self._found / self._seen:.1f} %) hold special tokens of the model in "
                f"their text ({', '.join(named)}{more}; {self._times} in all), first {self._first}: they become real tokens in the middle "
                "of a document, and the model learns to write them there. Where such a token parts two documents, write each into a row of "
                "its own of a .jsonl file, in a column text and without the token: the end of each row gets one"
            )
        return (
            f"{self._found} of {self._seen} rows ({100 * self._found / self._seen:.1f} %) hold special tokens of the model in "
            f"their text ({', '.join(named)}{more}; {self._learned} in answers), first {self._first}: they become real "
            "tokens, so a turn seems to begin or end there, and the model learns that from answers. They are trained as "
            "they are: remove or respell them unless they are intended"
        )

    def _look(self, placed: Placed) -> None:
        row, pattern = placed.row, self._pattern
        if pattern is None or not (row.messages or self._documents):
            return
        self._seen += 1
        said = [(message, set(_specials(message, pattern))) for message in row.messages]
        in_text = list(_specials(row.text, pattern))
        held = {*in_text, *_specials(row.tools, pattern)}.union(*(words for _, words in said))
        if not held:
            return
        self._found += 1
        self._times += len(in_text)
        self._learned += any(words for message, words in said if message["role"] == "assistant")
        self._rows_with.update(sorted(held))
        self._first = self._first or placed.place


def _specials(value: Any, pattern: re.Pattern[str]) -> Iterator[str]:
    """Yield the special tokens in all text below a value: content, reasoning, names and arguments of tools."""
    match value:
        case str():
            yield from pattern.findall(value)
        case dict():
            for key, item in value.items():
                if key not in WORDS_OF_THE_FORM:
                    yield from _specials(item, pattern)
        case list() | tuple():
            for item in value:
                yield from _specials(item, pattern)
