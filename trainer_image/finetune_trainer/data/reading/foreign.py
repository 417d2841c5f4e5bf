"""Files that hold no rows as they are: what each is, told by its name or its first bytes, and what to do with it."""

import csv
import io
import json

from finetune_trainer.data.reading.kinds import COMPRESSED
from finetune_trainer.data.reading.tables import UTF_16, separated

ROW = '{"prompt": ..., "completion": ...}'
AS_ROWS = f"write each question with its answer as a line such as {ROW} into a .jsonl file"
MEDIA_FILES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".mp3", ".wav", ".flac", ".ogg", ".opus", ".m4a",
               ".mp4", ".mov", ".webm", ".mkv", ".avi")  # fmt: skip
"""Endings of pictures, sounds and films."""

CONVERTED = (
    ((".xls", ".xlsm", ".xlsb", ".ods", ".numbers"), "a spreadsheet", "save it as .xlsx or .csv"),
    ((".sql", ".db", ".sqlite", ".sqlite3", ".mdb", ".accdb", ".dump", ".bak"), "a database", "export the table as .csv"),
    ((".yml", ".yaml", ".xml", ".tmx", ".xliff", ".po", ".toml", ".ini"), "a configuration or markup file", AS_ROWS),
    ((".html", ".htm", ".mhtml", ".docx", ".doc", ".pdf", ".rtf", ".odt", ".epub", ".pptx", ".ppt", ".tex", ".rst"), "a document",
     f"save its text as .txt to learn it as plain text (objective cpt), or {AS_ROWS}"),
    ((".srt", ".vtt", ".ass", ".sbv", ".log", ".mbox", ".eml"), "a transcript or log", AS_ROWS),
    ((".npy", ".npz", ".h5", ".hdf5", ".tfrecord", ".mat", ".rds", ".rdata", ".feather", ".orc", ".avro", ".msgpack", ".dta", ".sav"),
     "data of another program", "save it as .parquet, .csv or .jsonl with the program that wrote it"),
    ((".ipynb", ".py", ".js", ".ts", ".java", ".go", ".c", ".cpp", ".rs", ".sh"), "program code",
     f"save it as .txt to learn it as plain text (objective cpt), or {AS_ROWS}"),
    (MEDIA_FILES, "an image, sound or film",
     "only text is trained, so write what it says into rows of text"),
)  # fmt: skip
"""Endings, what such a file is, and how rows are made of it."""

MAGIC = (
    (b"\x1f\x8b", "compressed with gzip", "{name}.gz"),
    (b"BZh", "compressed with bzip2", "{name}.bz2"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "{name}.zst"),
    (b"PAR1", "a Parquet file", "{stem}.parquet"),
    (b"ARROW1", "an Arrow file", "{stem}.arrow"),
)
"""First bytes, what they say of the file, and the name under which it is read."""

OTHER_MAGIC = (
    (b"SQLite format 3", ".db"),
    (b"%PDF", ".pdf"),
    (b"\xd0\xcf\x11\xe0", ".xls"),
    (b"\x89PNG", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
)
"""First bytes of files that are read under no name, and an ending that stands for them."""

ZIP = b"PK\x03\x04"
UNPACK = "it is a zip archive: unpack it"


def to_convert(name: str) -> str:
    """Say what a file is and how to make rows of it; empty where its name does not tell."""
    found = ((what, remedy) for ends, what, remedy in CONVERTED if name.lower().endswith(ends))
    return next((f"it is {what}: {remedy}" for what, remedy in found), "")


def misnamed(name: str, beginning: bytes, suffix: str) -> str:
    """Say under which name a file would be read, or how to convert it; empty where its beginning fits its suffix."""
    stem = name.rsplit("/", 1)[-1].rsplit(".", 1)[0] or name
    for magic, what, read_as in MAGIC:
        read = read_as.format(name=_uncompressed(name.rsplit("/", 1)[-1]), stem=stem)
        if beginning.startswith(magic) and not read.endswith(suffix):
            return f"it is {what}: rename it to {read}"
    foreign = next((end for magic, end in OTHER_MAGIC if beginning.startswith(magic)), "")
    if foreign:
        return to_convert(foreign)
    if beginning.startswith(ZIP) and suffix != ".xlsx":
        is_excel = b"xl/" in beginning and not to_convert(name)
        return f"it is a spreadsheet of Excel: rename it to {stem}.xlsx" if is_excel else to_convert(name) or UNPACK
    if suffix in TEXTS:
        return ""
    kind = _kind_of_text(beginning)
    return f"it holds {kind[0]}: rename it to {stem}{kind[1]}" if kind else ""


def _uncompressed(name: str) -> str:
    """Take the ending of another compression away."""
    return (
        name[: -len(ending)]
        if (ending := next((end for end in COMPRESSED if name.lower().endswith(end)), ""))
        else name
    )


LEAST_ROWS = 3
"""So many rows make a table of a text."""

TEXTS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
"""Kinds of text that are read by readers with messages of their own."""


def _kind_of_text(beginning: bytes) -> tuple[str, str] | None:
    """Tell JSON and tables by their first lines."""
    lines = _text(beginning).splitlines()
    filled = [line for line in lines if line.strip()][:3]
    if not filled:
        return None
    if filled[0].lstrip().startswith("{") and (len(filled) < 2 or _is_json(filled[0])):
        return "JSON lines", ".jsonl"
    if filled[0].lstrip().startswith("[") and filled[0].strip().rstrip("{").rstrip() in ("[", "[["):
        return "a JSON list", ".json"
    separator, _ = separated(filled[0])
    counts = {len(fields) for fields in csv.reader(filled[:2], delimiter=separator)}
    if len(filled) > 1 and len(counts) == 1 and counts.pop() > 1 and len(filled[0].split()) < len(filled[1].split()):
        return "a table", ".tsv" if separator == "\t" else ".csv"
    return None


def rows_in_a_document(name: str, beginning: bytes) -> str:
    """Say under which name a text file is read that holds rows without a doubt: JSON lines, or the same tabs in every line."""
    kind = _kind_of_text(beginning)
    if kind is None or kind[1] == ".csv":  # commas stand in prose, too
        return ""
    return "" if kind[1] == ".tsv" and not _is_table(_text(beginning)) else misnamed(name, beginning, "")


def _is_table(text: str) -> bool:
    """Tell whether all rows have the same number of fields; the last one may be cut, and fields in quotes hold line ends."""
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter="\t") if row]
    whole = rows[:-1] if len(rows) > LEAST_ROWS else rows
    return len(whole) >= LEAST_ROWS and len({len(row) for row in whole}) == 1


def _text(beginning: bytes) -> str:
    """Decode what spreadsheets write: UTF-16 begins with a mark. Anything else with zeros in it is no text."""
    if beginning.startswith(UTF_16):
        return beginning[: len(beginning) // 2 * 2].decode("utf-16", errors="ignore")
    return "" if b"\0" in beginning else beginning.decode("utf-8-sig", errors="ignore")


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
