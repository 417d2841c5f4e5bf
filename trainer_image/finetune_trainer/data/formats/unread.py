"""What rows hold and nobody reads: counted by name while they are read, told in one warning. Nothing is dropped in silence."""

from collections import Counter
from collections.abc import Iterable

from finetune_trainer.data.formats.detect import PAIR, TEXT, Format
from finetune_trainer.data.formats.names import ASKED, LABELS, SPLIT_COLUMNS, bare, words_of

NAMED = 6
"""So many names the warning holds: it shares 4,096 bytes with the rest of the report."""


class Unread:
    """Counts, by column or key, the rows in which something that most likely matters is not read."""

    def __init__(self) -> None:
        self._rows: Counter[str] = Counter()
        self._seen = 0
        self._first: dict[str, str] = {}

    def row(self, names: Iterable[str], place: str) -> None:
        """Take in one row."""
        self._seen += 1
        for name in names:
            self._rows[name] += 1
            self._first.setdefault(name, place)

    def warning(self, uri: str, form: Format) -> str:
        """Say what is not read, in how many rows, and what to do; empty where there is nothing."""
        if not self._rows:
            return ""
        named = ", ".join(f"{name} in {count}" for name, count in self._rows.most_common(NAMED))
        more = f" and {len(self._rows) - NAMED} more" if len(self._rows) > NAMED else ""
        return f"{uri} holds data that is not used: {named}{more} (of {self._seen} rows). {_remedy(form, list(self._rows))}"


def _remedy(form: Format, names: list[str]) -> str:
    label = next((name for name in names if bare(name) in LABELS), "")
    if form.kind == TEXT and label:
        return f"To teach the label, set columns: {{prompt: {form.text}, completion: {label}}}; it must be text, not a number"
    if any(bare(name) in SPLIT_COLUMNS for name in names):
        return "Test rows are trained with the others: move them to evaluation.source"
    if label:
        return "All answers are learned: if this column says which are good, remove the others"
    asked = next((name for name in names if words_of(name) & ASKED), "")
    if form.kind == PAIR and form.prompt and asked:
        joined = "\\n\\n".join(f"{{{name}}}" for name in (form.prompt, asked))
        return f'If it is part of the question, set promptTemplate: "{joined}" in place of columns.prompt'
    return "Rows are trained without it: add it to the question or the answer if it matters"
