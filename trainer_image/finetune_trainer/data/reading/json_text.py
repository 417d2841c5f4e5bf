"""JSON: one record a line, or one document that holds the records."""

import ast
import io
import json
import re
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, BinaryIO

from finetune_trainer.data.reading.record import Place, Record, Unreadable, kind
from finetune_trainer.data.reading.turned import turned

LARGEST_JSON_BYTES = 512 << 20
"""A .json file is read whole, and parsed takes some five times its size."""

CONVERSION = (
    "convert the file with python3 -c 'exec(\"import ast, json, sys\\nfor line in sys.stdin:\\n try: json.loads(line)\\n "
    "except ValueError:\\n  try: line = json.dumps(ast.literal_eval(line))\\n  except (ValueError, SyntaxError): pass\\n "
    "print(line.strip())\")' "
    "< OLD.jsonl > NEW.jsonl"
)
"""Lines that are JSON, or neither, stay as they are."""

CONFLICT = re.compile(rb"(<{7}|>{7}|\|{7})( |$)|={7}$")
"""What git leaves in a file where it could not merge two versions."""

TRAILING = re.compile(rb",(\s*[}\]])")
COMMENT = (b"//", b"#", b"/*", b"--")

BEFORE, BEHIND = 16, 24
"""So many characters of a line are shown on both sides of what is wrong in it."""

TYPESET_QUOTES = "\u201c\u201d\u201e\u201f\u00ab\u00bb"

UTF_16 = (b"\xff\xfe", b"\xfe\xff")

NOT_SPACE = re.compile(r"\S")

FOR_ALL = ("system", "system_prompt", "instruction", "instructions", "definition", "prompt", "preamble", "persona")
"""Keys beside a list of records that say what is asked in each of them, in lower case."""

SPEAKERS = ("role", "from")
"""Keys by which a list is known to be one conversation, not a list of records."""


class RepeatedKey(ValueError):
    """An object names the same key twice: a parser would keep the last value in silence."""


def lines(file: BinaryIO) -> Iterator[Place]:
    """Yield one record a line; empty lines are skipped. Raises Unreadable for one document over several lines."""
    stripped = ((number, line.removeprefix(b"\xef\xbb\xbf").strip()) for number, line in enumerate(file, start=1))
    filled = ((number, line) for number, line in stripped if line)
    beginning = list(islice(filled, 2))
    if beginning and beginning[0][1].startswith(UTF_16):
        raise Unreadable("it is UTF-16 text: save the file as UTF-8")
    if len(beginning) == 2 and _is_document(*(line for _, line in beginning)):
        raise Unreadable("it is a JSON document over several lines, not one record per line: rename it to .json")
    for number, line in chain(beginning, filled):
        yield number, _of_line(line)


def _is_document(first: bytes, second: bytes) -> bool:
    """Tell by the first two lines; a broken record stands alone among whole ones."""
    if first.startswith(b"["):
        return not _is_json(first)
    is_open = first.startswith(b"{") and first.endswith((b"{", b"[", b",", b":"))
    return is_open and not _is_json(first[:-1]) and not _is_json(second)


def _of_line(line: bytes) -> Record | Unreadable:
    if b"\r" in line:
        raise Unreadable("its lines end with CR alone, as on an old Mac: save it with LF or CR LF line ends")
    try:
        return _record(READER.decode(line.decode("utf-8")))
    except Unreadable as problem:
        return problem
    except UnicodeDecodeError as error:
        return Unreadable(f"it is not UTF-8 text ({error.reason}): save the file as UTF-8")
    except RecursionError:
        return Unreadable("it is nested too deeply to be read: correct or remove that line")
    except RepeatedKey as error:
        return Unreadable(f"it {error}")
    except ValueError as error:
        return _not_json(line, error)


def _not_json(line: bytes, error: ValueError) -> Unreadable:
    if line in (b"[", b"{"):
        return Unreadable(f"it is only {line.decode()}: name a document that spans several lines .json")
    if found := CONFLICT.match(line):
        return Unreadable(
            f"it is `{found[0].decode().strip()}`, a mark that git left at a merge conflict: keep one side, and remove the marks"
        )
    if line.startswith(COMMENT):
        return Unreadable("it is a comment, which JSON does not have: remove that line")
    if _is_json(TRAILING.sub(rb"\1", line)):
        return Unreadable("it has a comma behind its last item: remove that comma")
    if _is_python(line):
        return Unreadable(f"it is written as a Python dict, not as JSON (single quotes, None, True): {CONVERSION}")
    if line.endswith(b",") and _is_json(line[:-1]):
        return Unreadable("it ends with a comma: remove the commas between JSON lines")
    if typeset := _typeset(line.decode()):
        return Unreadable(typeset)
    if isinstance(error, json.JSONDecodeError) and error.msg == "Extra data" and line[:1] == b"{":
        return Unreadable("it holds several objects: put each on a line of its own, or rename the file to .json")
    return Unreadable(f"it is not JSON ({error}{_near(error)}): correct or remove that line")


def _near(error: ValueError) -> str:
    """Show the place of a line where reading ended."""
    if not isinstance(error, json.JSONDecodeError):
        return ""
    shown = error.doc[max(0, error.pos - BEFORE) : error.pos + BEHIND].strip().replace("`", "'")
    return f", near `{shown}`" if shown else ""


def _typeset(text: str) -> str:
    """Say that a word processor has put other quotes in place of those of JSON; empty where it has not."""
    found = next((mark for mark in text if mark in TYPESET_QUOTES), "")
    if not found or not _is_json(text.translate(dict.fromkeys(map(ord, TYPESET_QUOTES), '"')).encode()):
        return ""
    return (
        f'it has typographic quotes ({found}), as word processors write them: replace those around names and texts by "'
    )


def _is_python(line: bytes) -> bool:
    """Tell what Python's print writes of a record."""
    try:
        return isinstance(ast.literal_eval(line.decode()), dict | list)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return False


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def unrepeated(pairs: list[tuple[str, Any]]) -> Record:
    """Make an object of the pairs that a JSON parser found. Raises RepeatedKey."""
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RepeatedKey(f"names the key {twice!r} twice, and only one value could be used: rename or remove one")
    return made


READER = json.JSONDecoder(object_pairs_hook=unrepeated)
"""Made once: json.loads would make one for each line."""


def _record(value: Any) -> Record:
    if isinstance(value, dict):
        return value
    if _is_conversation(value):
        return {"messages": value}
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        raise Unreadable("it is a list of records, not one record: rename the file to .json")
    raise _not_an_object(value)


def _not_an_object(value: Any) -> Unreadable:
    return Unreadable(
        f'it is {kind(value)}, not an object: write each row as an object, such as {{"prompt": ..., "completion": ...}}'
    )


def _is_conversation(value: Any) -> bool:
    """A list of turns that stands where a record is expected."""
    return isinstance(value, list) and bool(value) and all(_speaks(turn) for turn in value)


def _speaks(turn: Any) -> bool:
    return isinstance(turn, dict) and any(key in turn for key in SPEAKERS)


def document(file: BinaryIO) -> Iterator[Place]:
    """A list of records, an object that holds one, columns of values, or (as many tools write it) one record a line."""
    content = file.read(LARGEST_JSON_BYTES + 1)
    if len(content) > LARGEST_JSON_BYTES:
        raise Unreadable("a .json file of more than 512 MiB is too large to read: write one record per line, as .jsonl")
    try:
        value = READER.decode(content.decode("utf-8-sig"))
    except RepeatedKey as error:
        if _has_lines(content):
            yield from lines(io.BytesIO(content))
            return
        raise Unreadable(f"an object {error}") from error
    except RecursionError as error:
        raise Unreadable("it is nested too deeply to be read") from error
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            yield from lines(io.BytesIO(content)) if _has_lines(content) else _one_after_another(content)
            return
        if _is_python(content.split(b"\n", 1)[0].strip()):
            yield from lines(io.BytesIO(content))
            return
        if typeset := _typeset(content.decode("utf-8-sig")):
            raise Unreadable(typeset) from error
        raise Unreadable(
            f"line {error.lineno} is not JSON ({error.msg}): correct it; JSON has no comments, no single quotes, no names without "
            "quotes, and no comma behind the last item"
        ) from error
    for number, item in enumerate(_items(value), start=1):
        yield number, _item(item)


def _one_after_another(content: bytes) -> Iterator[Place]:
    """Records over several lines each, with nothing between them."""
    text, number = content.decode("utf-8-sig"), 0
    position = _next(text, 0)
    while position < len(text):
        number += 1
        try:
            value, end = READER.raw_decode(text, position)
        except ValueError as error:
            raise Unreadable(f"record {number} is not JSON ({error})") from error
        position = _next(text, end)
        yield number, _item(value)


def _next(text: str, position: int) -> int:
    found = NOT_SPACE.search(text, position)
    return found.start() if found else len(text)


def _has_lines(content: bytes) -> bool:
    """Say whether the first line is a record of its own."""
    first = content.split(b"\n", 1)[0].strip()
    return first.startswith(b"{") and _is_json(first)


def _item(item: Any) -> Record | Unreadable:
    if isinstance(item, dict):
        return item
    if _is_conversation(item):
        return {"messages": item}
    return _not_an_object(item)


def _items(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        raise Unreadable("it is not a list of records, nor an object that holds one list")
    if len(value) == 1 and isinstance(inner := next(iter(value.values())), dict) and _holds_records(inner):
        return _items(inner)
    lists = {key: item for key, item in value.items() if isinstance(item, list)}
    of_records = {key: item for key, item in lists.items() if item and all(isinstance(one, dict) for one in item)}
    if any(any(key in item[0] for key in SPEAKERS) for item in of_records.values()):
        return [value]  # a conversation: the file is one record
    if len(of_records) == 1:
        _refuse_asked_for_all(value)
        return next(iter(of_records.values()))
    if not of_records and (rows := turned(value)):
        return rows
    if len(of_records) > 1:
        raise Unreadable(
            f"it holds several lists of records ({', '.join(of_records)}): save the one to train on as .jsonl"
        )
    if len(lists) == 1 and not next(iter(lists.values())):
        return []
    if value and not any(isinstance(item, list | dict) for item in value.values()):
        return [value]  # a file of one record
    found = ", ".join(map(str, list(value)[:5])) or "nothing"
    raise Unreadable(
        f"it is not a list of records, nor an object that holds one list of them (its keys: {found}): write each record as an object "
        "on a line of its own into a .jsonl file"
    )


def _refuse_asked_for_all(value: Record) -> None:
    """Raise Unreadable for a text beside a list of records that belongs to each of them: no row would have it."""
    name = next((key for key, text in value.items() if key.lower() in FOR_ALL and _says(text)), "")
    if name:
        raise Unreadable(
            f"it holds {name} beside its records, and no row would have it: write it into each record, or remove it"
        )


def _says(value: Any) -> bool:
    return bool(value) and (
        isinstance(value, str) or (isinstance(value, list) and all(isinstance(text, str) for text in value))
    )


def _holds_records(value: Record) -> bool:
    """Tell whether an object holds one list of records: what wraps it is the name of a format."""
    return [_is_list_of_records(item) for item in value.values()].count(True) == 1 and not _speaks(value)


def _is_list_of_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)
