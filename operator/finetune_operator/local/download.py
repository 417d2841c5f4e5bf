"""Fetch programs from their official releases instead of building them. Called by binaries for `--download`.

The checksum is the one that is published beside each file, fetched over TLS from the same place: it finds a damaged
download, not a release that was exchanged. Who needs more builds from source, where go.sum pins every byte.
"""

import hashlib
import http.client
import shutil
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune_operator.errors import LocalClusterError
from finetune_operator.local.binaries import ETCD, VERSITYGW, Binary, Say, architecture, cache_root, system
from finetune_operator.local.state import file_lock

CONNECT_SECONDS = 10
"""A network that drops packets must not look like a slow download."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Where a program is published."""

    url: str
    checksums: str
    """URL of the file with its sha256: the bare sum, or lines of `SUM  NAME`."""
    member: str = ""
    """Path inside the archive; empty: the file is the program."""


def release(binary: Binary) -> Release:
    """Return where a program is published."""
    platform = f"{system()}-{architecture()}"
    if binary == VERSITYGW:
        raise LocalClusterError("versitygw cannot be downloaded, only built from source: run without --download")
    if binary == ETCD:
        base = f"https://github.com/etcd-io/etcd/releases/download/{binary.version}"
        folder = f"etcd-{binary.version}-{platform}"
        return Release(url=f"{base}/{folder}.tar.gz", checksums=f"{base}/SHA256SUMS", member=f"{folder}/etcd")
    url = f"https://dl.k8s.io/release/{binary.version}/bin/{platform.replace('-', '/')}/{binary.name}"
    return Release(url=url, checksums=f"{url}.sha256")


def download(binaries: Sequence[Binary], *, say: Say) -> None:
    """Download programs into the cache, one line per program."""
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    with file_lock(root / ".build"):
        for binary in binaries:
            if not binary.cached.exists():
                began = time.monotonic()
                fetch(release(binary), binary.cached)
                say(f"{binary.name}: downloaded in {time.monotonic() - began:.0f} s")


def fetch(source: Release, target: Path) -> None:
    """Download one program, verify it, and put it in place when it is whole."""
    wanted = checksum(_read(source.checksums).decode(errors="replace"), source.url.rsplit("/", 1)[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    archive = target.with_name(f".{target.name}.download")
    found = _save(source.url, archive)
    if found != wanted:
        archive.unlink()
        raise LocalClusterError(
            f"{source.url} has SHA-256 {found}, but {wanted} is published: the download is corrupt and was deleted"
        )
    partial = _unpack(archive, source.member) if source.member else archive
    partial.chmod(0o755)
    partial.replace(target)
    archive.unlink(missing_ok=True)


def checksum(text: str, name: str) -> str:
    """Find the sum of a file in a list of sums; a lone sum is that of the only file."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    sums = [line[0] for line in lines if len(line) == 1 or line[-1].lstrip("*") == name]
    if len(sums) != 1 or len(sums[0]) != 64:
        raise LocalClusterError(f"no SHA-256 is published for {name}: it cannot be verified, so it is not used")
    return sums[0].lower()


def _unpack(archive: Path, member: str) -> Path:
    partial = archive.with_suffix(".partial")
    with tarfile.open(archive) as files:
        source = files.extractfile(member)
        if source is None:
            raise LocalClusterError(f"archive {archive.name} does not contain {member}")
        with partial.open("wb") as target:
            shutil.copyfileobj(source, target)
    return partial


def _read(url: str) -> bytes:
    with _open(url) as answer:
        return answer.read(1_000_000)


def _save(url: str, path: Path) -> str:
    """Write a URL's bytes to a file and return their sha256."""
    digest = hashlib.sha256()
    with _open(url) as answer, path.open("wb") as file:
        while block := answer.read(1 << 20):
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def _open(url: str) -> http.client.HTTPResponse:
    try:
        answer: http.client.HTTPResponse = urllib.request.urlopen(url, timeout=CONNECT_SECONDS)  # noqa: S310 https above
    except (urllib.error.URLError, OSError) as error:
        raise LocalClusterError(
            f"{url} cannot be reached ({error}): run without --download to build from source,"
            " or set KUBEBUILDER_ASSETS to a folder that contains the programs"
        ) from error
    return answer
