"""Rows of one data set that cannot be used: counted by what is wrong, with the first places; refused or left out as asked."""

import re
from dataclasses import dataclass, field

from finetune_trainer.errors import UserError

EXAMPLES = 3
"""So many places are named for each thing that is wrong."""

NAMED_KINDS = 4
"""So many things that are wrong are named: a message has a few kilobytes."""

SKIPPED_PERCENT = 10
"""What maxPercent is where it is not set: the same as in the API."""

MOST_SKIPPED_PERCENT = 50
"""Nobody is told to leave out more: what is wrong with most of the rows is wrong with how they are read."""

CORRECT = "correct or remove"
"""What a fault says whose only remedy this is: it is not said again."""

VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|\d+")
"""What differs between rows with the same fault: names, values and numbers."""


@dataclass(slots=True)
class Fault:
    """One thing that is wrong, as the first row with it says."""

    message: str
    file: str = ""
    skippable: bool = True
    """False where it says that other rows are wrong, too."""
    rows: int = 0
    numbers: list[int] = field(default_factory=list)
    """The first ones in that file."""


class InvalidRows:
    """Counts the rows of a data set that cannot be used."""

    def __init__(self, uri: str, *, skip: bool, max_percent: int) -> None:
        self._uri = uri
        self._skip = skip
        self._max_percent = max_percent
        self._faults: dict[str, Fault] = {}
        self.seen = 0
        """Rows that were read, good and bad."""

    def add(self, file: str, number: int, message: str, *, skippable: bool = True) -> None:
        """Take in a row that cannot be used."""
        fault = self._faults.setdefault(VARYING.sub("", message), Fault(message, file, skippable))
        fault.rows += 1
        if len(fault.numbers) < EXAMPLES and file == fault.file:
            fault.numbers.append(number)

    @property
    def rows(self) -> int:
        """Rows that cannot be used."""
        return sum(fault.rows for fault in self._faults.values())

    @property
    def _skippable(self) -> bool:
        return all(fault.skippable for fault in self._faults.values())

    def check(self) -> None:
        """Raise UserError(DatasetInvalid) unless all rows can be used, or so few cannot that they may be left out."""
        if not self.rows or (self._skip and self._skippable and 100 * self.rows <= self._max_percent * self.seen):
            return
        raise UserError("DatasetInvalid", self._told(self._remedy()))

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
        return self._told("; they are skipped (invalidRows.action: skip)") if self.rows else ""

    def _told(self, remedy: str) -> str:
        faults = sorted(self._faults.values(), key=lambda fault: -fault.rows)
        if self.rows == self.seen == 1:
            return f"{self._uri}: {_where(faults[0])}: {faults[0].message}"
        if len(faults) == 1:
            what = f"{faults[0].message} ({_where(faults[0])})"
        else:
            named = [f"{fault.rows} because {fault.message} ({_where(fault)})" for fault in faults[:NAMED_KINDS]]
            more = sum(fault.rows for fault in faults[NAMED_KINDS:])
            what = "; ".join([*named, *([f"{more} for other reasons"] if more else [])])
        return f"{self._uri}: {self.rows} of {self.seen} rows cannot be used: {what}{remedy}"


def _where(fault: Fault) -> str:
    if fault.rows == 1:
        return f"{fault.file} row {fault.numbers[0]}"
    return f"{fault.file} rows {', '.join(map(str, fault.numbers))}{' ...' if fault.rows > len(fault.numbers) else ''}"
