"""The real lm-eval in a folder of its own, beside this environment: with it every trainer would start half a second later.

Installed once, some 320 MB, as it is pinned for the images.
"""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from finetune_operator.local.binaries import cache_root

PINNED = Path(__file__).parents[2] / "requirements/lm-eval.txt"


def packages() -> Path:
    """Return the folder to put on the path of Python, which is filled where it is missing."""
    pinned = PINNED.read_text()
    (version,) = re.findall(r"^lm-eval==(\S+)", pinned, re.MULTILINE)
    folder = cache_root() / "engines" / f"lm-eval-{version}"
    if not (folder / "complete").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        listed = folder / "requirements.txt"
        listed.write_text("".join(missing(pinned)))
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
        subprocess.run([*pip, "--no-deps", "--require-hashes", "--target", str(folder), "-r", str(listed)], check=True)
        (folder / "complete").touch()
    return folder


def missing(pinned: str) -> list[str]:
    """Return the requirements that this environment does not have, each with its hashes."""
    present = {re.sub(r"[-_.]+", "-", found.name).lower() for found in metadata.distributions()}
    each = re.split(r"^(?=[a-z0-9])", pinned, flags=re.MULTILINE)
    return [one for one in each if "==" in one and one.partition("==")[0] not in present]
