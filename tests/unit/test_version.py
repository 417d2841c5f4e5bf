"""One version: finetune_operator.__version__. Everything else that states it must say the same."""

import re
import tomllib
from pathlib import Path

import pytest
from finetune_operator import __version__
from finetune_operator.cli.app import app
from ruamel.yaml import YAML
from typer.testing import CliRunner

ROOT = Path(__file__).parents[2]


def read(path: str) -> str:
    return (ROOT / path).read_text()


def test_pyproject_says_the_version():
    """The Python package."""
    assert tomllib.loads(read("pyproject.toml"))["project"]["version"] == __version__


@pytest.mark.parametrize(("path", "images"), [("operator/Dockerfile", 1), ("trainer_image/Dockerfile", 2)])
def test_dockerfiles_say_the_version(path: str, images: int):
    """Each image's label has it as its default."""
    assert re.findall(r"^ARG VERSION=(.*)$", read(path), re.MULTILINE) == [__version__] * images


def test_the_chart_says_the_version():
    """The chart has the version of the operator that it installs, and names the images of that version."""
    chart = YAML(typ="safe").load(read("charts/finetune-operator/Chart.yaml"))
    files = ("Chart.yaml", "values.yaml")
    tags = [
        tag
        for file in files
        for tag in re.findall(r"ghcr\.io/finetune-operator/\w+:(\S+)", read(f"charts/finetune-operator/{file}"))
    ]

    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
    assert tags == [__version__] * 5


def test_the_citation_and_the_changelog_say_the_version():
    """The citation file, and the newest section of the changelog."""
    (newest, *_) = re.findall(r"^## (\S+)", read("CHANGELOG.md"), re.MULTILINE)

    assert YAML(typ="safe").load(read("CITATION.cff"))["version"] == __version__
    assert newest in (__version__, "Unreleased")


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_the_command_line_prints_the_version(arguments: list[str]):
    """As a command and as an option."""
    result = CliRunner().invoke(app, arguments)

    assert (result.exit_code, result.output) == (0, f"{__version__}\n")
