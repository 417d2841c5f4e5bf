"""The command line: `finetune` and `kubectl finetune`. `run`, `local` and what is about jobs need a cluster."""

import os
import sys

from finetune_operator.errors import FinetuneError


def main() -> None:
    """Run the command line; end with 1 and one line on stderr when something that we foresaw goes wrong."""
    # pydantic would read the entry points of every installed package to look for plugins; nothing here has any
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from finetune_operator.cli.app import app  # noqa: PLC0415  # importing a sub-command must not import the frame

    try:
        app()
    except FinetuneError as error:
        print(f"finetune: {error}", file=sys.stderr)
        sys.exit(1)
