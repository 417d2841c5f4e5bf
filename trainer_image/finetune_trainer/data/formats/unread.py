"""What rows hold and nobody reads: counted by name while they are read, told in one warning. Nothing is dropped in silence."""

from collections import Counter
from collections.abc import Mapping

from finetune_trainer.data.formats.calls import ONLY_NAMED
from finetune_trainer.data.formats.detect import MESSAGES, PAIR, TEXT, Format
from finetune_trainer.data.formats.names import (
    ANSWERING,
    ASKED,
    COMPLETIONS,
    LABELS,
    RATINGS,
    SPLIT_COLUMNS,
    bare,
    words_of,
)

TELLING = ANSWERING | ASKED | RATINGS
"""Words in the names that come first where as many rows hold others."""

NAMED = 6
"""So many names the warning holds: it shares 4,096 bytes with the rest of the report."""


class Unread:
    """Counts, by column or key, the rows in which something is not read that is not known to be harmless."""

    def __init__(self) -> None:
        self._rows: Counter[str] = Counter()
        self._seen = 0
        self._texts: set[str] = set()

    def row(self, names: Mapping[str, bool]) -> None:
        """Take in one row: what is not read, and whether it is text."""
        self._seen += 1
        for name, is_text in names.items():
            self._rows[name] += 1
            if is_text:
                self._texts.add(name)

    def warning(self, uri: str, form: Format) -> str:
        """Say what is not read, in how many rows, and what to do; empty where there is nothing."""
        if not self._rows:
            return ""
        ordered = sorted(self._rows.items(), key=lambda item: (-item[1], not words_of(item[0]) & TELLING))
        named = ", ".join(f"{name} in {count}" for name, count in ordered[:NAMED])
        more = f" and {len(self._rows) - NAMED} more" if len(self._rows) > NAMED else ""
        return f"{uri} holds data that is not used: {named}{more} (of {self._seen} rows). {self._remedy(form)}"

    def _remedy(self, form: Format) -> str:
        names = list(self._rows)
        if any(name.endswith(ONLY_NAMED.format("")) for name in names):
            return "Tools are written into the prompt if each is an object with a name, a description and parameters"
        label = next((name for name in names if bare(name) in LABELS), "")
        if form.kind == TEXT and label:
            return self._teach_label(form, label)
        if any(bare(name) in SPLIT_COLUMNS for name in names):
            return "Test rows are trained with the others: move them to evaluation.source"
        if label:
            return "All answers are learned: if this column says which are good, remove the others"
        answer = next((name for name in names if name in self._texts and words_of(name) & ANSWERING), "")
        if form.kind == TEXT and answer:
            return f"Rows teach the text alone. To teach {answer}, set columns: {{prompt: {form.text}, completion: {answer}}}"
        asked = next((name for name in names if name in self._texts and words_of(name) & ASKED), "")
        if form.kind == PAIR and form.prompt and asked:
            joined = "\\n\\n".join(f"{{{name}}}" for name in (form.prompt, asked))
            return f'If it is part of the question, set promptTemplate: "{joined}" in place of columns.prompt'
        if form.kind == MESSAGES and not form.system and asked:
            return f"If it is the system prompt of each conversation, set columns.system: {asked}"
        if form.kind == PAIR and bare(answer) in COMPLETIONS:
            return f"Rows teach {form.completion}. If {answer} is the answer to learn, set columns: {{completion: {answer}}}"
        if any(words_of(name) & RATINGS for name in names) and not self._texts:
            return "All rows are learned alike, good or bad: if it says how good an answer is, remove the rows with bad ones"
        return "Rows are trained without it: add it to the question or the answer if it matters"

    def _teach_label(self, form: Format, label: str) -> str:
        if label in self._texts:
            return f"To teach the label, set columns: {{prompt: {form.text}, completion: {label}}}; it must be text, not a number"
        return (
            f"To teach it, write it as text into a column completion, and set columns: {{prompt: {form.text}, completion: "
            f"completion}}; the first text of a list is {label}.0"
        )
