"""`python -m finetune_trainer forget URI UID RUN_DIGEST [SECRET]`: remove what a deleted job kept. Called by `finetune delete`.

Removed are the checkpoints of this run, its prepared rows and its logs. Where another job has taken the destination over, only the logs
of this one are.
"""

import json
import re
import sys
from collections.abc import Iterator

from finetune_contract import COMPLETE_MARKER, JOURNAL_FOLDER, Location

from finetune_trainer.checkpoints.checkpoints import BASELINE_FILE, EITHER_NAME, RESULT_NAME, parsed_marker
from finetune_trainer.checkpoints.holder import HOLDER_FILE, parsed_holder
from finetune_trainer.errors import ReportedError
from finetune_trainer.storage import Role, Store, open_location
from finetune_trainer.storage.secrecy import redacted

OF_PREFLIGHT = re.compile(r"^(prepared-[0-9a-f]{16}|preview-[0-9a-f]{16}\.txt)$")


def main(uri: str, uid: str, run_digest: str, secret: str = "") -> int:
    """Remove, and print one JSON object that says what. Returns the exit code."""
    try:
        store = open_location(Location(uri=uri, secret=secret), Role.CHECKPOINT)
        found = forget(store, uid, run_digest)
    except ReportedError as error:
        print(redacted(error.message), file=sys.stderr)
        return int(error.exit_code)
    print(json.dumps(found))
    return 0


def forget(store: Store, uid: str, run_digest: str) -> dict[str, int | bool]:
    """Remove what is this job's and return how many checkpoints and bytes that were, and whether another job has its place."""
    holder = parsed_holder(store.read_text(HOLDER_FILE))
    taken_over = holder is not None and holder.uid != uid
    sizes: dict[str, int] = {}
    for file in store.files():
        top = file.path.partition("/")[0]
        sizes[top] = sizes.get(top, 0) + file.size_bytes
    logs = sum(file.size_bytes for file in store.files(f"{JOURNAL_FOLDER}/{uid}"))
    store.delete(f"{JOURNAL_FOLDER}/{uid}")
    doomed = [] if taken_over else list(_of_run(store, sizes, run_digest))
    for name in doomed:
        store.delete(name)
    checkpoints = sum(1 for name in doomed if EITHER_NAME.match(name))
    size = logs + sum(sizes[name] for name in doomed)
    return {"checkpoints": checkpoints, "bytes": size, "takenOver": taken_over}


def _of_run(store: Store, names: dict[str, int], run_digest: str) -> Iterator[str]:
    """Yield what belongs to the run: its checkpoints, what it handed over, unfinished ones, and the files beside them."""
    for name in names:
        if EITHER_NAME.match(name) or RESULT_NAME.match(name):
            marker = parsed_marker(store.read_text(f"{name}/{COMPLETE_MARKER}"))
            if marker is None or marker.run_digest == run_digest:
                yield name
        elif name in (HOLDER_FILE, BASELINE_FILE) or OF_PREFLIGHT.match(name):
            yield name
