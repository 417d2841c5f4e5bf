"""Downloads that went wrong: a page or an error message under the name of the data is never trained."""

import gzip
import json

import pytest

from tests.trainer.data_inputs import jsonl, refusal_of, rows_of, tokenizer

pytestmark = pytest.mark.usefixtures("local_files")

HTML = b'<!DOCTYPE html>\n<html lang="en"><head><title>Sign in</title></head><body>login</body></html>\n'
XHTML = b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- proxy -->\n<html xmlns="http://www.w3.org/1999/xhtml"></html>'
S3 = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'
AGAIN = "not data: download the file again from its own address, and with a token if it needs one"
PAGE = "it is an HTML page"
ERROR = "it is the error message of an object store (XML)"
FILES = [
    *((f"a{end}", HTML, PAGE) for end in (".jsonl", ".json", ".csv", ".tsv", ".xlsx", ".parquet", ".arrow", ".jsonl.gz", ".txt")),
    ("b.md", XHTML, PAGE),
    *((f"s3{end}", S3, ERROR) for end in (".jsonl", ".csv", ".parquet", ".txt")),
    ("c.txt", b"404: Not Found\n", "it holds only '404: Not Found', the answer of a server"),
    ("d.csv", b"Entry not found", "it holds only 'Entry not found', the answer of a server"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "found"), FILES, ids=[name for name, *_ in FILES])
def test_a_page_under_the_name_of_the_data_is_refused(tmp_path, name, content, found):
    """A corpus of text files would learn the login page."""
    (tmp_path / name).write_bytes(content)

    assert refusal_of(tmp_path, tmp_path / name, words=tokenizer(None), objective="cpt") == (
        "DatasetInvalid", f"file:///{name}: {name}: {found}, {AGAIN}"
    )  # fmt: skip


def test_rows_about_pages_are_read(tmp_path):
    """HTML in a value, Markdown that begins with a tag, XML that is no error."""
    rows = jsonl(tmp_path / "a.jsonl", [{"text": HTML.decode()}])
    (tmp_path / "b.md").write_text('<p align="center">red</p>')
    (tmp_path / "c.txt").write_text('<?xml version="1.0"?>\n<book>blue</book>')
    packed = tmp_path / "d.jsonl.gz"
    packed.write_bytes(gzip.compress(json.dumps({"text": "Not Found"}).encode()))
    files = (rows, tmp_path / "b.md", tmp_path / "c.txt", packed)

    assert len(rows_of(tmp_path, *files, words=tokenizer(None), objective="cpt")) == 4
