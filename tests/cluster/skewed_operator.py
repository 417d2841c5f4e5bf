"""The operator on a machine whose clock is wrong: `python -m tests.cluster.skewed_operator SECONDS run ...`."""

import sys
from datetime import datetime, timedelta, tzinfo

from finetune_operator.cli import (
    main,
    run,  # noqa: F401  # what it imports is what runs
)
from finetune_operator.controller import process  # noqa: F401

AHEAD = timedelta(seconds=int(sys.argv.pop(1)))


class Skewed(datetime):
    """A clock that is ahead."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + AHEAD


for name, module in list(sys.modules.items()):
    if name.startswith("finetune_operator") and getattr(module, "datetime", None) is datetime:
        module.datetime = Skewed  # type: ignore[attr-defined]

main()
