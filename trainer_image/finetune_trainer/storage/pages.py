"""What a download leaves where the file should be: a login page, an error document, an error in words."""

import re

BEGINNING_BYTES = 1024
"""Read of a file to tell: a page says what it is at its beginning."""

HTML = re.compile(
    rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*|<!--.*?-->\s*)*<(!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL
)
XML_ERROR = re.compile(rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?<Error>\s*<Code>")
SAID = re.compile(
    rb"\s*(404: Not Found|Not Found|Entry not found|Repository not found|Invalid username or password\.|Unauthorized|Forbidden|"
    rb"Access Denied)\s*"
)
"""What servers answer instead of a file, as the whole of it."""


def page(beginning: bytes) -> str:
    """Return what a file holds instead of its content; empty where it may be what its name says."""
    if HTML.match(beginning):
        return "it is an HTML page"
    if XML_ERROR.match(beginning):
        return "it is the error message of an object store (XML)"
    if len(beginning) < BEGINNING_BYTES and (said := SAID.fullmatch(beginning)):
        return f"it holds only {said[1].decode()!r}, the answer of a server"
    return ""
