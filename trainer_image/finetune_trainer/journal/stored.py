"""Print what a Pod has left at a store: `python -m finetune_trainer stored URI FOLDER NAME [SECRET]`, called by `finetune logs`."""

import sys

from finetune_contract import Location

from finetune_trainer.errors import ReportedError
from finetune_trainer.storage import Role, open_location
from finetune_trainer.storage.secrecy import redacted

NOTHING = 3
"""Exit code where nothing was kept."""


def main(uri: str, folder: str, name: str, secret: str = "") -> int:
    """Print the parts of one text in their order; returns the exit code."""
    try:
        store = open_location(Location(uri=uri, secret=secret), Role.CHECKPOINT)
        paths = [file.path for file in store.files(folder) if file.path.rpartition("/")[2].startswith(f"{name}-")]
        for path in sorted(paths):
            sys.stdout.write(store.read_text(path) or "")
    except ReportedError as error:
        print(redacted(error.message), file=sys.stderr)
        return int(error.exit_code)
    return 0 if paths else NOTHING
