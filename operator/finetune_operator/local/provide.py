"""Find the programs of a local cluster, or make them. Called by control_plane; calls build and download.

Order: the folder KUBEBUILDER_ASSETS, the cache, PATH where the version is right; otherwise they are built, or downloaded
with `--download`.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from finetune_operator.local.binaries import Binary, Say


def find(binary: Binary) -> Path | None:
    """Look for a program where it may already be; None where it must be made."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and os.access(Path(assets) / binary.name, os.X_OK):
        return Path(assets).absolute() / binary.name
    if os.access(binary.cached, os.X_OK):
        return binary.cached
    installed = shutil.which(binary.name)
    return Path(installed) if installed and has_version(Path(installed), binary) else None


def has_version(path: Path, binary: Binary) -> bool:
    """Whether a program says that it is the version we pin."""
    try:
        answer = subprocess.run(
            [path, *binary.version_command], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return binary.version.removeprefix("v") in answer.stdout.replace("v", " ").split()


def provide(binaries: Sequence[Binary], *, say: Say, download: bool = False) -> dict[str, Path]:
    """Return the path of each program, making those that are nowhere to be found."""
    found = {binary.name: path for binary in binaries if (path := find(binary))}
    missing = [binary for binary in binaries if binary.name not in found]
    if missing:
        # imported here: a warm start needs neither of them
        from finetune_operator.local import build  # noqa: PLC0415
        from finetune_operator.local import download as releases  # noqa: PLC0415

        make = releases.download if download else build.build
        make(missing, say=say)
    return found | {binary.name: binary.cached for binary in missing}
