"""`python -m finetune_trainer fetch URI FOLDER [DIGEST [SECRET]]`: bring a published folder here, and refuse other files.

Run by the init containers of `finetune manifests`, and by `finetune serve` and `finetune chat`.
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from finetune_contract import Location

from finetune_trainer.errors import ReportedError, UserError
from finetune_trainer.publishing.artifacts import file_digests, folder_digest
from finetune_trainer.storage import Role, open_location
from finetune_trainer.storage.secrecy import redacted


def main(uri: str, folder: str, digest: str = "", secret: str = "") -> int:
    """Fetch, and say what is wrong. Returns the exit code."""
    try:
        bring(Location(uri=uri, secret=secret), Path(folder), digest)
    except ReportedError as error:
        print(redacted(error.message), file=sys.stderr)
        return 1
    return 0


def everything(_: str) -> bool:
    """Choose every file."""
    return True


def bring(location: Location, folder: Path, digest: str, *, wanted: Callable[[str], bool] = everything) -> None:
    """Copy the wanted files of a place into a folder, which is left as it is where it is complete already."""
    if folder.is_dir() and digest and folder_digest(file_digests(folder)) == digest:
        return
    shutil.rmtree(folder, ignore_errors=True)
    repository, below = split(location.uri)
    store = open_location(Location(uri=repository, secret=location.secret), Role.MODEL)
    paths = [file.path for file in store.files(below) if wanted(file.path)]
    scratch = folder.with_name(f".{folder.name}")
    shutil.rmtree(scratch, ignore_errors=True)
    source = store.fetch(scratch, paths)
    for path in paths:
        place = folder / Path(path).relative_to(below)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / path, place)
    shutil.rmtree(scratch, ignore_errors=True)
    found = folder_digest(file_digests(folder))
    if digest and found != digest:
        shutil.rmtree(folder)
        raise UserError(
            "ModelInvalid",
            f"{location.uri} has the digest {found}, not {digest}, which was published: restore its files",
        )


def split(uri: str) -> tuple[str, str]:
    """Return a place that can be opened and the folder below it: a repository of the hub has two parts to its name."""
    if not uri.startswith("hf://"):
        return uri, ""
    owner, _, rest = uri.removeprefix("hf://").partition("/")
    name, _, below = rest.partition("/")
    return f"hf://{owner}/{name}", below
