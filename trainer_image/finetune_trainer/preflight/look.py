"""`python -m finetune_trainer look`: what data is, as one JSON object. Needs no model. Called by `finetune init` and `plan`.

Takes preflight's configuration. Format and columns are found by the code that reads the rows of a run; with --tokens the rows are
prepared as preflight prepares them, and the whole report is there, too.
"""

import json
import sys

from finetune_contract import PreflightConfig

from finetune_trainer.preflight.__main__ import without_torch
from finetune_trainer.told import told


def main(*options: str) -> int:
    """Print what the datasets of a job are. Returns 0 also where they cannot be used: the object says why."""
    without_torch()
    # Imported here because torch must be hidden first.
    from finetune_trainer.preflight.data_found import data_found  # noqa: PLC0415

    config = told(PreflightConfig)
    print(json.dumps(data_found(config, tokens="--tokens" in options)))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
