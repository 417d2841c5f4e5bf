"""What rows hold and nobody reads: counted by name while they are read, told in one warning. Nothing is dropped in silence."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from finetune_trainer.data.formats.calls import ONLY_NAMED
from finetune_trainer.data.formats.chosen import PLACEHOLDER
from finetune_trainer.data.formats.detect import MESSAGES, PAIR, TEXT, Format
from finetune_trainer.data.formats.names import (
    ANSWERING,
    ASKED,
    COMPLETIONS,
    LABELS,
    MEDIA,
    RATINGS,
    SAID_BEFORE,
    SPLIT_COLUMNS,
    bare,
    is_harmless,
    is_reasoning,
    names_answer,
    words_of,
)
from finetune_trainer.data.formats.states import is_state
from finetune_trainer.data.formats.suggest import KEEP_REASONING, Suggestion, quoted
from finetune_trainer.data.reading.record import Record

TELLING = ANSWERING | ASKED | RATINGS
"""Words in the names that come first where as many rows hold others."""

NAMED = 6
"""So many names the warning holds: it shares 4,096 bytes with the rest of the report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """How else an example of the rows could be read; all of it was tried."""

    suggested: Iterable[Suggestion] = ()
    unwritten: str = ""
    """What to write where the answer is there as a number only."""


def read_by_names(form: Format, uri: str) -> str:
    """Say which two columns are read where their names alone told it; empty for other forms."""
    if not form.by_names:
        return ""
    return (
        f"{uri} is read as questions in {form.prompt} with answers in {form.completion}: to teach anything else, name the columns in "
        "datasets[].columns"
    )


class Unread:
    """Counts, by column or key, the rows in which something is not read that is not known to be harmless."""

    def __init__(self) -> None:
        self._rows: Counter[str] = Counter()
        self._seen = 0
        self._texts: set[str] = set()
        self._telling: set[str] = set()
        """Names of which some row says more than no."""
        self._most = 0
        self._example: Record = {}

    @property
    def example(self) -> Record:
        """The record of which the most is not read, without flags that no row sets."""
        unset = self._rows.keys() - self._telling
        return {name: value for name, value in self._example.items() if name not in unset}

    def row(self, names: Mapping[str, bool | None], record: Record) -> None:
        """Take in one row: what is not read of its record, and whether it is text."""
        self._seen += 1
        if len(names) > self._most:
            self._most, self._example = len(names), record
        for name, is_text in names.items():
            self._rows[name] += 1
            if is_text is not None:
                self._telling.add(name)
            if is_text:
                self._texts.add(name)

    def warning(self, uri: str, form: Format, other: Other) -> str:
        """Say what is not read, in how many rows, and what to do; empty where there is nothing."""
        told = {name: count for name, count in self._rows.items() if name in self._telling}
        if not told:
            return ""
        ordered = sorted(
            told.items(), key=lambda item: (not is_state(item[0]), -item[1], not words_of(item[0]) & TELLING)
        )
        named = ", ".join(f"{name} in {count}" for name, count in ordered[:NAMED])
        more = f" and {len(told) - NAMED} more" if len(told) > NAMED else ""
        return f"{uri} holds data that is not used: {named}{more} (of {self._seen} rows). {self._remedy(form, other, list(told))}"

    def _remedy(self, form: Format, other: Other, names: list[str]) -> str:
        if any(name.endswith(ONLY_NAMED.format("")) for name in names):
            return "Tools are written into the prompt if each is an object with a name, a description and parameters"
        if any(bare(name) in SPLIT_COLUMNS for name in names):
            return "Test rows are trained with the others: move them to evaluation.source"
        if any(words_of(name) & MEDIA for name in names):
            return "Only text is trained: remove the rows that make no sense without their images or sound"
        if state := next(filter(is_state, names), ""):
            return (
                f"All answers are learned, also those that somebody discarded: remove the rows in which {state} says so"
            )
        if form.kind == TEXT:
            return self._taught(other)
        if any(bare(name) in LABELS for name in names):
            return "All answers are learned: if this column says which are good, remove the others"
        asked = next((name for name in names if name in self._texts and words_of(name) & SAID_BEFORE), "")
        answer = next((name for name in names if name in self._texts and words_of(name) & ANSWERING), "")
        if form.kind == PAIR and bare(answer) in COMPLETIONS:
            return f"Rows teach {form.completion}. If {answer} is the answer to learn, set columns: {{completion: {answer}}}"
        if form.kind == PAIR and (joined := self._joined(form, other)):
            return f"If it is part of the question, set promptTemplate: {joined} in place of columns.prompt"
        if form.kind == MESSAGES and not form.system and asked:
            return f"If it is the system prompt of each conversation, set columns.system: {asked}"
        thought = next((name for name in names if is_reasoning(name, self.example.get(name))), "")
        if thought:
            return f"Rows are trained without {thought}: {KEEP_REASONING}"
        rating = next((name for name in names if words_of(name) & RATINGS and name not in self._texts), "")
        if rating:
            return f"All rows are learned alike, good or bad: if {rating} says how good an answer is, remove the rows with bad ones"
        return "Rows are trained without it: add it to the question or the answer if it matters"

    def _taught(self, other: Other) -> str:
        """Rows teach a text alone, and what stands beside it may be its answer."""
        for one in other.suggested:
            answer = one.columns.get("completion", "")
            is_aside = is_harmless(answer) and not names_answer(answer)  # a title, which names the text
            if answer.split(".")[0] in self._rows and not is_aside:
                return f"Rows teach the text alone. To teach {answer}, set {one}"
        if other.unwritten:
            return f"Rows teach the text alone; {other.unwritten}"
        return "Rows teach the text alone: add what matters to it"

    def _joined(self, form: Format, other: Other) -> str:
        """The question with what stands beside it, such as a text that it is about or the choices."""
        for one in other.suggested:
            columns = PLACEHOLDER.findall(one.prompt_template)
            if one.columns.get("completion") == form.completion and form.prompt in columns:
                return quoted(one.prompt_template)
        return ""
