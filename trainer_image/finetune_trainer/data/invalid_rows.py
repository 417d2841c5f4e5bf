"""Rows that cannot be used: counted by what is wrong, with the first places; left out as asked, or refused all at once."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from finetune_trainer.errors import UserError

EXAMPLES = 3
"""So many places are named for each thing that is wrong."""

LONGEST_TOLD = 2400
"""So many characters say what is wrong, of all data sets together: the whole report has 4,096 bytes."""

MOST_KINDS = 200
"""So many things that are wrong are told apart: a file of another kind may be wrong in another way in every row."""

SKIPPED_PERCENT = 10
"""What maxPercent is where it is not set: the same as in the API."""

MOST_SKIPPED_PERCENT = 50
"""Nobody is told to leave out more: what is wrong with most of the rows is wrong with how they are read."""

CORRECT = "correct or remove"
"""What a fault says whose only remedy this is: it is not said again."""

VARYING = re.compile(
    r"`[^`]*`|'[^']*'|\"[^\"]*\"|\d+|; the row has .*|\(its keys: [^)]*\)|(?<= holds )[^:]*(?=: only parts)"
)
"""What differs between rows with the same fault: names, values and numbers."""


@dataclass(slots=True)
class Fault:
    """One thing that is wrong, as the first row with it says."""

    message: str
    skippable: bool = True
    """False where it says that other rows are wrong, too."""
    rows: int = 0
    places: list[tuple[str, int]] = field(default_factory=list)
    """The first ones: file and number."""

    @property
    def where(self) -> str:
        """`a.jsonl rows 1, 3, b.jsonl row 2 ...`."""
        numbers: dict[str, list[str]] = {}
        for file, number in self.places:
            numbers.setdefault(file, []).append(str(number))
        named = (f"{file} row{'s' if len(told) > 1 else ''} {', '.join(told)}" for file, told in numbers.items())
        return f"{', '.join(named)}{' ...' if self.rows > len(self.places) else ''}"


def refuse_invalid(corpora: Iterable["InvalidRows"]) -> None:
    """Raise UserError(DatasetInvalid) with all that is wrong in all data sets, unless so little is that it may be left out."""
    refused = [invalid for invalid in corpora if invalid.is_refused]
    if refused:
        raise UserError(
            "DatasetInvalid", ". ".join(invalid.refusal(LONGEST_TOLD // len(refused)) for invalid in refused)
        )


class InvalidRows:
    """Counts the rows of a data set that cannot be used."""

    def __init__(self, uri: str, *, skip: bool, max_percent: int) -> None:
        self._uri = uri
        self._skip = skip
        self._max_percent = max_percent
        self._faults: dict[str, Fault] = {}
        self._skippable = True
        self.seen = 0
        """Rows that were read, good and bad."""
        self.beside = ""
        """What is to be said of the other rows."""
        self.besides = ""
        """The same where rows are refused; a warning of its own says it where they are skipped."""
        self.rows = 0
        """Rows that cannot be used."""

    def add(self, file: str, number: int, messages: Sequence[str], *, skippable: bool = True) -> None:
        """Take in a row that cannot be used, and everything that is wrong with it."""
        self.rows += 1
        self._skippable &= skippable
        by_kind: dict[str, str] = {}
        for message in messages:
            by_kind.setdefault(VARYING.sub("", message), message)
        for kind, message in by_kind.items():
            fault = self._fault(kind, message)
            fault.rows += 1
            if len(fault.places) < EXAMPLES:
                fault.places.append((file, number))

    def _fault(self, kind: str, message: str) -> Fault:
        if kind not in self._faults and len(self._faults) >= MOST_KINDS:
            return self._faults.setdefault("", Fault(f"they are wrong in other ways: {CORRECT} them"))
        return self._faults.setdefault(kind, Fault(message))

    @property
    def is_refused(self) -> bool:
        """Not all rows can be used, and more cannot than may be left out."""
        may_skip = self._skip and self._skippable and 100 * self.rows <= self._max_percent * self.seen
        return self.rows > 0 and not may_skip

    def refusal(self, length: int = LONGEST_TOLD) -> str:
        """Say what is wrong and what to do; what is wrong has about so many characters."""
        return self._told(self._remedy(), length) + self.beside + self.besides

    def _remedy(self) -> str:
        if self.rows == self.seen or not self._skippable:
            return ""
        percent = -(-100 * self.rows // self.seen)
        if percent > MOST_SKIPPED_PERCENT:
            return (
                "" if all(CORRECT in fault.message for fault in self._faults.values()) else ". Correct or remove them"
            )
        is_said = all(CORRECT in fault.message for fault in self._faults.values())
        if self._skip:
            other = f"set it to {percent}" if is_said else f"correct or remove them, or set it to {percent}"
            return f"; invalidRows.maxPercent allows {self._max_percent} %: {other}"
        most = f", maxPercent: {percent}" if percent > SKIPPED_PERCENT else ""
        skip = f"skip them with datasets[].invalidRows: {{action: skip{most}}}"
        return f", or {skip}" if is_said else f". Correct or remove them, or {skip}"

    def warning(self) -> str:
        """Say what was left out; empty where nothing was."""
        return self._told("; they are skipped (invalidRows.action: skip)") + self.beside if self.rows else ""

    def _told(self, remedy: str, length: int = LONGEST_TOLD) -> str:
        faults = sorted(self._faults.values(), key=lambda fault: -fault.rows)
        if self.rows == self.seen == 1:
            return f"{self._uri}: {faults[0].where}: {'; '.join(fault.message for fault in faults)}"
        if len(faults) == 1:
            what = f"{faults[0].message} ({faults[0].where})"
        else:
            named = _fitting([f"{fault.rows} because {fault.message} ({fault.where})" for fault in faults], length)
            more = sum(fault.rows for fault in faults[len(named) :])
            what = "; ".join([*named, *([f"{more} for other reasons"] if more else [])])
        return f"{self._uri}: {self.rows} of {self.seen} rows cannot be used: {what}{remedy}"


def _fitting(told: Sequence[str], length: int) -> list[str]:
    """Return the first of several texts that have about so many characters, at least one."""
    ends = accumulate(map(len, told))
    return [text for number, (text, end) in enumerate(zip(told, ends, strict=True)) if end <= length or not number]
