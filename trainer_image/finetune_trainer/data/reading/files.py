"""Which files of a location hold the rows: by suffix, by split, by the data card of the data set."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from finetune_contract import Dataset

from finetune_trainer.data.reading.card import SPLITS, Files, Splits, card_splits, named_splits
from finetune_trainer.data.reading.foreign import AS_ROWS, MEDIA_FILES, misnamed, to_convert
from finetune_trainer.data.reading.kinds import kind_of, readable
from finetune_trainer.data.reading.nearest import did_you_mean, nearest
from finetune_trainer.data.reading.shards import gap_warnings, refuse_gaps
from finetune_trainer.errors import UserError
from finetune_trainer.storage import Role, Store, StoredFile, open_location
from finetune_trainer.storage.formats import PICKLES
from finetune_trainer.storage.pages import BEGINNING_BYTES
from finetune_trainer.storage.store import not_found

NOT_ROWS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "package.json", "config.json")
NOT_DATA = ("readme.md", "license", "license.txt", "license.md", "notice", "makefile", *NOT_ROWS)
"""Files that lie beside data everywhere: that they are not read surprises nobody."""

UNPICKLED = 'save the table as rows where running that code is safe, with df.to_json("rows.jsonl", orient="records", lines=True)'

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.zst", ".7z", ".rar", ".xz")

MOST_BESIDE = 1000
"""So many names beside a missing file are looked at."""

HIDDEN = re.compile(r"(^|/)[._]")
"""What tools lay beside data (Spark's _temporary, .ipynb_checkpoints), as the datasets library leaves it out."""

NAMED_FILES = 3
"""So many of the files that are not read a warning names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFiles:
    """The files of one data set, in order."""

    store: Store
    files: tuple[StoredFile, ...]
    warnings: tuple[str, ...] = ()
    """What lies there too and is not read."""
    other_splits: tuple[StoredFile, ...] = ()
    """Files of a folder of one's own that belong to another split."""

    @property
    def places(self) -> frozenset[str]:
        """Where each file is, to tell whether two data sets read the same one."""
        return frozenset(self._place(file) for file in self.files)

    def _place(self, file: StoredFile) -> str:
        uri = self.store.uri
        if uri.endswith(f"/{file.path}"):
            return uri
        folder = uri[: uri.index("*")].rpartition("/")[0] if "*" in uri else uri.rstrip("/")
        return f"{folder}/{file.path}"

    def unmeasured(self, measured: frozenset[str]) -> str:
        """Name the files of other splits that nobody reads, which may have been meant for evaluation; empty without any."""
        others = [file.path for file in self.other_splits if self._place(file) not in measured]
        if not others:
            return ""
        more = f" and {len(others) - NAMED_FILES} more" if len(others) > NAMED_FILES else ""
        named = f"{', '.join(others[:NAMED_FILES])}{more}"
        return f"{self.store.uri}: only split train is read, without {named}: to measure on one of them, name it in evaluation.source"

    @property
    def size_bytes(self) -> int:
        """Size of all files."""
        return sum(file.size_bytes for file in self.files)

    def fetch(self, into: Path) -> Path:
        """Bring the files to the workspace (or use them in place) and return their folder."""
        return self.store.fetch(into, [file.path for file in self.files])


def data_files(dataset: Dataset, *, documents: bool = False) -> DataFiles:
    """Return the files of a data set; `documents` reads text files too. Raises UserError with what to write instead."""
    store = open_location(dataset.location, Role.DATASET, revision=dataset.revision)
    listed = store.files()
    if not listed:
        raise _missing(store)
    _refuse_pickles(store.uri, listed)
    visible = (
        list(listed) if _is_one_file(store.uri, listed) else [file for file in listed if not HIDDEN.search(file.path)]
    )
    hidden = [file for file in listed if file not in visible and _is_put_aside(file, documents=documents)]
    rows = tuple(file for file in visible if _holds_rows(file, documents=documents))
    if documents and any(kind_of(file.path, documents=False) for file in rows):
        rows = tuple(file for file in rows if _name(file) not in NOT_DATA)  # the card of a data set is not its text
    if not rows:
        raise UserError("DatasetInvalid", _no_rows(store, visible, hidden, documents=documents))
    if "*" in store.uri or _is_one_file(store.uri, listed):
        _refuse_choice(dataset, store.uri)
        left_out = gap_warnings(store.uri, [file.path for file in rows])
        return DataFiles(
            store=store, files=rows, warnings=(*_left(store.uri, visible, rows), *_aside(store.uri, hidden), *left_out)
        )
    told = card_splits(store, rows, dataset.config)
    splits = told or named_splits(rows)
    chosen = _of_split(store.uri, splits, rows, dataset.split)
    on_hub = store.uri.startswith("hf://")  # it takes no glob, and nobody but its owner can add a file
    if not on_hub:
        refuse_gaps(store.uri, [file.path for file in chosen])
    gaps = gap_warnings(store.uri, [file.path for file in chosen]) if on_hub else ()
    return DataFiles(
        store=store,
        files=chosen,
        warnings=(
            *_left(store.uri, visible, rows),
            *_aside(store.uri, hidden),
            *_mixed(store.uri, dataset.split, chosen),
            *gaps,
        ),
        other_splits=() if on_hub or dataset.split != "train" else _without(_in_splits(told) or rows, chosen),
    )


def _missing(store: Store) -> UserError:
    """Return the refusal of a place where nothing is, with the nearest name that lies beside it in a folder of this Pod."""
    problem = not_found(Role.DATASET, f"the dataset {store.uri}")
    folder = store.local_folder()
    beside = folder.parent if folder and not folder.exists() else None
    names = [path.name for path in islice(beside.iterdir(), MOST_BESIDE)] if beside and beside.is_dir() else []
    near = nearest(folder.name, names) if folder else ""
    return UserError(problem.reason, f"{problem.message}{did_you_mean([near])}")


def _name(file: StoredFile) -> str:
    return Path(file.path).name.lower()


def _holds_rows(file: StoredFile, *, documents: bool) -> bool:
    return kind_of(file.path, documents=documents) is not None and _name(file) not in NOT_ROWS


def _is_one_file(uri: str, listed: Sequence[StoredFile]) -> bool:
    return len(listed) == 1 and uri.rsplit("/", 1)[-1] == Path(listed[0].path).name


def _refuse_choice(dataset: Dataset, uri: str) -> None:
    """A split or configuration chooses among the files of a folder."""
    if dataset.split != "train" or dataset.config:
        chosen = "config" if dataset.config else "split"
        raise UserError(
            "DatasetInvalid",
            f"{uri} names its files itself, so datasets[].{chosen} has no effect: remove it, or set source to the folder",
        )


def _is_put_aside(file: StoredFile, *, documents: bool) -> bool:
    """Whether a file would be read but for a name that begins with _; those with a dot are an editor's or a system's."""
    return not re.search(r"(^|/)\.", file.path) and _holds_rows(file, documents=documents)


def _aside(uri: str, hidden: Sequence[StoredFile]) -> tuple[str, ...]:
    """Name the files that their name puts aside."""
    if not hidden:
        return ()
    more = f" and {len(hidden) - NAMED_FILES} more" if len(hidden) > NAMED_FILES else ""
    are = "1 file is" if len(hidden) == 1 else f"{len(hidden)} files are"
    named = ", ".join(file.path for file in hidden[:NAMED_FILES])
    return (
        f"{uri}: {are} not read ({named}{more}), because names that begin with _ are put aside: rename what is meant",
    )


def _no_rows(store: Store, visible: Sequence[StoredFile], hidden: Sequence[StoredFile] = (), *, documents: bool) -> str:
    if hidden and not visible:
        return _aside(store.uri, hidden)[0]
    names = ", ".join(file.path for file in visible[:NAMED_FILES]) or "nothing"
    said = f"{store.uri} has no data files, only {names}"
    if any(file.path.lower().endswith(ARCHIVES) for file in visible):
        return f"{said}: archives are not read, so unpack them and name the folder or the file in them"
    read = f"data is read from {readable(documents=documents)}"
    told = [found for file in visible[:NAMED_FILES] if (found := _told(store, file))]
    if told:
        return f"{said}: {told[0]}" + ("" if _is_one_file(store.uri, visible) else f". In a folder {read}")
    if not documents and any(kind_of(file.path) for file in visible):
        return f"{said}: .txt and .md are for objective cpt, and {read}. For sft, {AS_ROWS}"
    return f"{said}: {read}. {AS_ROWS[0].upper()}{AS_ROWS[1:]}"


def _told(store: Store, file: StoredFile) -> str:
    """Say what a file that is not read is, by its beginning or its name."""
    with store.open(file.path) as opened:
        beginning = opened.read(BEGINNING_BYTES)
    return misnamed(file.path, beginning, Path(file.path).suffix.lower()) or to_convert(file.path)


def _left(uri: str, visible: Sequence[StoredFile], rows: Files) -> tuple[str, ...]:
    """Name the files that are not read and might have been meant."""
    left = [file.path for file in visible if file not in rows and _name(file) not in NOT_DATA]
    if not left:
        return ()
    more = f" and {len(left) - NAMED_FILES} more" if len(left) > NAMED_FILES else ""
    are = "1 file is" if len(left) == 1 else f"{len(left)} files are"
    media_only = all(file.lower().endswith(MEDIA_FILES) for file in left)
    remedy = "only text is trained" if media_only else "convert the files that hold rows to .jsonl"
    return (f"{uri}: {are} not read ({', '.join(left[:NAMED_FILES])}{more}): {remedy}",)


def _in_splits(told: Splits) -> Files:
    """Return the files of the configuration that is read."""
    return tuple(file for files in told.values() for file in files)


def _without(rows: Files, chosen: Files) -> Files:
    return tuple(file for file in rows if file not in chosen)


def _mixed(uri: str, split: str, chosen: Files) -> tuple[str, ...]:
    """Say that files of several names stand for one split, which a set of train_sft and train_gen does not mean."""
    stems = sorted(stem for stem in {_stem(file) for file in chosen} if stem.startswith(f"{split}_"))
    if len(stems) < 2:
        return ()
    return (
        f"{uri}: split {split} mixes the files of {', '.join(stems)}: to read one of them only, set split: {stems[0]} "
        f"or split: {stems[-1]}",
    )


def _stem(file: StoredFile) -> str:
    """`data/train_sft-00000-of-00003.parquet` -> `train_sft`."""
    return re.sub(r"(-\d+-of-\d+.*|[-_]?\d*\.[a-z0-9.]+)$", "", _name(file))


def _of_split(uri: str, splits: Splits, files: Files, split: str) -> Files:
    """Return the files of a split: as the data card says, else by the words in their names, else all are `train`."""
    wanted = next((name for name, aliases in SPLITS.items() if split in aliases), split)
    chosen = splits.get(split) or splits.get(wanted) or tuple(file for file in files if _stem(file) == split)
    if chosen:
        return chosen
    near = [nearest(split, splits), *(name for name in sorted(splits) if name.startswith(split)), *sorted(splits)]
    raise UserError(
        "DatasetNotFound",
        f"{uri} has no split {split}: it has {', '.join(sorted(splits))}; set datasets[].split, such as split: {next(filter(None, near))}",
    )


def _refuse_pickles(uri: str, files: Sequence[StoredFile]) -> None:
    pickles = [file.path for file in files if file.path.lower().endswith(PICKLES)]
    if pickles and not uri.startswith("hf://"):  # of a hub repository only the files of rows are downloaded
        others = len(pickles) < len(files)
        remedy = "select the files of rows with a glob such as *.jsonl, or remove them"
        raise UserError(
            "DatasetInvalid",
            f"{uri} holds pickle files such as {pickles[0]}, which can run code when loaded: {remedy if others else UNPICKLED}",
        )
