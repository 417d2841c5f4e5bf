"""What a refusal says of all rows, not of the one that shows it: how many are of a kind, and what most of them hold. Called by corpus."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from finetune_trainer.data.formats.inside import with_inner
from finetune_trainer.data.formats.states import taken_back
from finetune_trainer.data.formats.suggest import NUMBERS, Suggestion
from finetune_trainer.data.reading.record import Record
from finetune_trainer.errors import CountedError, UserError

MOSTLY = 0.9
"""Such a part of the rows holds numbers where they are said to hold numbers."""


def counted_again(problem: CountedError, records: Iterable[Record]) -> UserError:
    """Return an error about rows of some kind with their number."""
    found = [problem.holds(record) for record in records]
    return UserError(problem.reason, problem.told(sum(found), len(found)))


def sure(suggested: Suggestion | None, records: Sequence[Record]) -> Suggestion | None:
    """Take what a suggestion says of numbers away where most rows hold words."""
    if suggested is None or NUMBERS not in suggested.note:
        return suggested
    name = suggested.columns["completion"]
    held = [with_inner(record, [name]).get(name) for record in records]
    numbers = sum(str(value).strip().isdigit() for value in held)
    return suggested if numbers > MOSTLY * len(held) else replace(suggested, note="")


def discarded(records: Iterable[Record]) -> str:
    """Say which column says of some rows that somebody discarded them: no suggestion leaves these out."""
    found = [tuple(taken_back(record)) for record in records]
    says = Counter(name for names in found for name in names)
    told = ", ".join(f"{name} says of {rows} of {len(found)} rows" for name, rows in says.items())
    return f". {told} that they, or answers in them, were discarded: remove those first" if told else ""
