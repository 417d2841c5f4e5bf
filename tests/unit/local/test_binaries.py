"""Where the programs of the local cluster come from."""

import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from finetune_operator.errors import LocalClusterError
from finetune_operator.local.binaries import ETCD, HELM, KUBECTL, KWOK, MODULES, TRAINING_OPERATOR, VERSITYGW
from finetune_operator.local.download import Release, checksum, fetch, release
from finetune_operator.local.provide import find, has_version

SUM = "a" * 64


def a_program(folder: Path, name: str, says: str) -> Path:
    """Make a program that prints a text."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    return program


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no assets, and a PATH with nothing but a shell."""
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("FINETUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:/bin:/usr/bin")
    return tmp_path


def test_assets_win_over_the_cache_and_the_cache_over_path(places: Path, monkeypatch: pytest.MonkeyPatch):
    """The order is the documented one."""
    on_path = a_program(places / "path", "etcd", "etcd Version: 3.6.8")
    assert find(ETCD) == on_path
    cached = a_program(ETCD.cached.parent, "etcd", "whatever")
    assert find(ETCD) == cached
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(places / "assets"))
    assert find(ETCD) == cached
    asset = a_program(places / "assets", "etcd", "whatever")
    assert find(ETCD) == asset


@pytest.mark.parametrize(
    ("says", "right"),
    [
        ("Client Version: v1.36.3", True),
        ("Client Version: v1.36.30", False),
        ("Client Version: v1.35.3", False),
        ("", False),
    ],
)
def test_a_program_on_path_must_have_the_version(places: Path, says: str, right: bool):
    """Another version could behave in another way, so it is not taken."""
    program = a_program(places / "path", "kubectl", says)

    assert has_version(program, KUBECTL) is right
    assert find(KUBECTL) == (program if right else None)


def test_the_modules_ship_with_the_package():
    """go.mod and go.sum pin what is built."""
    names = {"fakegcs", "helm", "kubernetes", "kwok", "training-operator", "versitygw"}
    assert {path.name for path in MODULES.iterdir() if path.is_dir()} == names
    assert [sorted(path.name for path in module.iterdir()) for module in sorted(MODULES.iterdir())] == [
        ["go.mod", "go.sum", "tools.go"]
    ] * len(names)
    assert f"k8s.io/kubernetes {KUBECTL.version}" in (MODULES / "kubernetes" / "go.mod").read_text()
    assert f"go.etcd.io/etcd/server/v3 {ETCD.version}" in (MODULES / "kubernetes" / "go.mod").read_text()
    assert f"versitygw {VERSITYGW.version}" in (MODULES / "versitygw" / "go.mod").read_text()
    assert f"helm.sh/helm/v4 {HELM.version}" in (MODULES / "helm" / "go.mod").read_text()
    assert f"sigs.k8s.io/kwok {KWOK.version}" in (MODULES / "kwok" / "go.mod").read_text()
    pinned = f"github.com/kubeflow/training-operator {TRAINING_OPERATOR.version}"
    assert pinned in (MODULES / "training-operator" / "go.mod").read_text()


def test_releases_are_the_official_ones():
    """Each program is downloaded from its publisher, beside its checksum."""
    assert release(KUBECTL).checksums == f"{release(KUBECTL).url}.sha256"
    assert release(KUBECTL).url.startswith("https://dl.k8s.io/release/v1.36.3/bin/linux/")
    assert release(ETCD).checksums == "https://github.com/etcd-io/etcd/releases/download/v3.6.8/SHA256SUMS"
    with pytest.raises(LocalClusterError, match="cannot be downloaded, only built from source: run without --download"):
        release(VERSITYGW)


@pytest.mark.parametrize("text", [f"{SUM}\n", f"{SUM}  x.tar.gz\n{'b' * 64}  y.tar.gz\n", f"{SUM} *x.tar.gz"])
def test_the_sum_of_a_file_is_found(text: str):
    """A lone sum, or the line with the file's name."""
    assert checksum(text, "x.tar.gz") == SUM


@pytest.mark.parametrize("text", ["", "<html>not found</html>", f"{SUM}  y.tar.gz"])
def test_a_file_without_a_sum_is_refused(text: str):
    """What cannot be verified is not used."""
    with pytest.raises(LocalClusterError, match=r"no SHA-256 is published for x\.tar\.gz"):
        checksum(text, "x.tar.gz")


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A release server on the loopback: its URL and its folder."""
    folder = tmp_path / "published"
    folder.mkdir()

    class Files(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", folder
        server.shutdown()
        thread.join()


def test_a_download_is_verified_unpacked_and_executable(publisher: tuple[str, Path], tmp_path: Path):
    """A program comes out of its archive when the sum is right."""
    url, folder = publisher
    data = b"#!/bin/sh\n"
    with tarfile.open(folder / "etcd.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("etcd-v1/etcd")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    found = hashlib.sha256((folder / "etcd.tar.gz").read_bytes()).hexdigest()
    (folder / "SUMS").write_text(f"{found}  etcd.tar.gz\n")
    target = tmp_path / "bin" / "etcd"
    fetch(Release(url=f"{url}/etcd.tar.gz", checksums=f"{url}/SUMS", member="etcd-v1/etcd"), target)

    assert target.read_bytes() == data
    assert [path.name for path in target.parent.iterdir()] == ["etcd"]
    assert target.stat().st_mode & 0o111


def test_a_damaged_download_is_thrown_away(publisher: tuple[str, Path], tmp_path: Path):
    """Nothing of it stays in the cache."""
    url, folder = publisher
    (folder / "kubectl").write_bytes(b"broken")
    (folder / "kubectl.sha256").write_text(SUM)
    found = hashlib.sha256(b"broken").hexdigest()
    target = tmp_path / "bin" / "kubectl"
    with pytest.raises(LocalClusterError) as refusal:
        fetch(Release(url=f"{url}/kubectl", checksums=f"{url}/kubectl.sha256"), target)

    assert str(refusal.value) == (
        f"{url}/kubectl has SHA-256 {found}, but {SUM} is published: the download is corrupt and was deleted"
    )
    assert list(target.parent.iterdir()) == []


def test_a_publisher_out_of_reach_is_said_at_once(tmp_path: Path):
    """The message names the ways that need no download."""
    with pytest.raises(
        LocalClusterError,
        match="run without --download to build from source, or set KUBEBUILDER_ASSETS to a folder that contains the programs",
    ):
        fetch(Release(url="http://127.0.0.1:1/x", checksums="http://127.0.0.1:1/x.sha256"), tmp_path / "x")
