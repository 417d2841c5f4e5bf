"""Write golden files anew, all of them but the recorded worlds or the parts that are named, and delete those that nothing makes any more:

    make goldens
    python -m tests.golden plans manifests

Then read the difference: it is what users, clusters and platform teams will see change.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.golden import argo, chart, explain, imports, manifests, plans, pools, worlds

PARTS: Final[dict[str, Callable[[], dict[Path, str]]]] = {
    "plans": plans.files,
    "manifests": manifests.files,
    "pools": pools.files,
    "imports": imports.files,
    "explain": explain.files,  # starts a control plane
    "argo": argo.files,
    "chart": chart.files,  # builds helm once
    "worlds": worlds.files,  # starts a control plane
}
RECORDED: Final = ("worlds",)
"""Never the same twice: recorded anew only where they are named."""


def write(files: dict[Path, str]) -> None:
    """Write the files of a part, and say which have changed; in their folder no other is left."""
    for path, text in files.items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"wrote {path}")
    for folder in {path.parent for path in files if path.parent.name in PARTS}:
        for path in sorted(set(folder.iterdir()) - set(files)):
            path.unlink()
            print(f"deleted {path}")


def main(names: list[str]) -> int:
    """Return the exit code."""
    if unknown := [name for name in names if name not in PARTS]:
        print(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    for name in names or [part for part in PARTS if part not in RECORDED]:
        print(f"==> {name}")
        write(PARTS[name]())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
