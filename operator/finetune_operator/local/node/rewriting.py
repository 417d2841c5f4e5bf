"""Replace mount paths by the folders behind them. Used by environment; computes, touches nothing.

Without mount namespaces a container's /workspace is a folder somewhere else: its args and env values must say where.
"""

import re
from collections.abc import Mapping


def with_folders(text: str, folders: Mapping[str, str]) -> str:
    """Replace each path (and what is below it) by its folder, the longest first, at path boundaries only.

    `/workspace` is replaced in `/workspace`, `/workspace/a`, `--out=/workspace`, `a=/workspace:b=/x`, `file:///workspace`;
    not in `/workspaces`, `/a/workspace`, `s3://bucket/workspace`.
    """
    if not folders:
        return text
    longest_first = sorted((path.rstrip("/") for path in folders), key=len, reverse=True)
    paths = "|".join(re.escape(path) for path in longest_first if path)
    pattern = re.compile(rf"(?:(?<![\w./~-])|(?<=://))(?:{paths})(?![\w.-])")
    known = {path.rstrip("/"): folder for path, folder in folders.items()}
    return pattern.sub(lambda match: known[match[0]], text)
