"""The errors that a Pod reports on purpose, told apart by who must act. Caught by the entry points only.

ReportedError
├── UserError            the user must change the job: exit code 87, `reason` is a terminal reason of the API
├── StorageUnavailable   nobody must act: bucket, hub or volume does not answer; the operator tries again
└── StorageFull          somebody must make room; the operator tries again

Messages say what, how much and what to do. They never hold a secret: only names of Secrets and of their keys.
"""

from collections.abc import Callable
from typing import Any

from finetune_contract import ExitCode


class ReportedError(Exception):
    """An end that was foreseen. `reason` goes into the outcome, `exit_code` out of the process."""

    def __init__(self, reason: str, message: str, exit_code: ExitCode = ExitCode.ERROR) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.exit_code = exit_code


class UserError(ReportedError):
    """The user must change the job (or what it points to); retrying is useless."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message, ExitCode.USER_ERROR)


class CountedError(UserError):
    """The same for rows of some kind: whoever can read all rows says with `told` how many of how many are of it."""

    def __init__(self, holds: Callable[[Any], bool], told: Callable[[int, int], str]) -> None:
        super().__init__("DatasetInvalid", told(0, 0))
        self.holds = holds
        self.told = told


class StorageUnavailable(ReportedError):
    """Bucket, hub or volume does not answer; the same may work later."""

    def __init__(self, message: str) -> None:
        super().__init__("StorageUnavailable", message)


class StorageFull(ReportedError):
    """No space is left where something had to be written."""

    def __init__(self, message: str) -> None:
        super().__init__("StorageFull", message)
