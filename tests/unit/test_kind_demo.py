"""`make kind-demo` where it cannot run, and its names. The demo itself needs Docker, which these tests do not have."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from demo.kind import OPERATOR, PREFLIGHT, TRAINER, images, main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing but a shell and what the test puts there."""
    (tmp_path / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["demo.kind"])
    return tmp_path


def a_program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_without_docker_it_ends_at_once(programs: Path, capsys: pytest.CaptureFixture[str]):
    """The message names what is missing and the demo that needs none of it."""
    assert main() == 1
    assert capsys.readouterr().err == (
        "make kind-demo needs docker and kind on PATH; missing: docker, kind. Without Docker: make demo\n"
    )


def test_with_a_silent_daemon_it_ends_at_once(programs: Path, capsys: pytest.CaptureFixture[str]):
    """A client without its daemon would fail after the first image."""
    a_program(programs, "kind", "exit 0")
    a_program(
        programs, "docker", "echo 'Cannot connect to the Docker daemon at unix:///var/run/docker.sock.' >&2; exit 1"
    )

    assert main() == 1
    assert capsys.readouterr().err == (
        "make kind-demo needs a Docker daemon that answers: Cannot connect to the Docker daemon at"
        " unix:///var/run/docker.sock. Without Docker: make demo\n"
    )


def test_images_have_the_names_of_the_chart():
    """The chart is installed with its default values, so the node must have just these."""
    values = YAML(typ="safe").load((ROOT / "charts/finetune-operator/values.yaml").read_text())
    chart = YAML(typ="safe").load((ROOT / "charts/finetune-operator/Chart.yaml").read_text())

    assert [
        f"{values['image']['repository']}:{chart['appVersion']}",
        values["trainer"]["preflightImage"],
        values["trainer"]["image"],
    ] == [OPERATOR, PREFLIGHT, TRAINER]
    assert [name for name, _, _ in images()] == [OPERATOR, PREFLIGHT, TRAINER]


def test_every_target_is_in_its_dockerfile():
    """A stage that is renamed must be renamed here, too."""
    assert [target for _, file, target in images() if f" AS {target}\n" not in Path(file).read_text()] == []
