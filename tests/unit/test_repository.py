"""The shape of the repository: what import-linter cannot say."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "operator" / "finetune_operator"
CORE = sorted(f for layer in ("api", "planning", "manifests", "lifecycle") for f in (PACKAGE / layer).rglob("*.py"))
OUTER = ("contract", "operator", "trainer_image")
SOURCES = sorted(path for folder in OUTER for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("module", CORE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_core_is_synchronous(module: Path):
    """Nothing in the core awaits: async marks I/O, and I/O lives in controller/."""
    coroutines = [
        node.name for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.AsyncFunctionDef)
    ]

    assert coroutines == []


def test_the_core_was_found():
    """A moved folder must fail the suite, not empty it."""
    assert len(CORE) > 15


@pytest.mark.parametrize("folder", OUTER)
def test_outer_folders_stay_plain(folder: str):
    """An __init__.py in operator/ would shadow the standard library's operator module."""
    assert not (ROOT / folder / "__init__.py").exists()


@pytest.mark.parametrize("module", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_readable(module: Path):
    """A file of more than 300 lines is two files."""
    assert len(module.read_text().splitlines()) <= 300


def tracked_files() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()


ROOMS = ("contract/finetune_contract/", "operator/finetune_operator/", "trainer_image/finetune_trainer/")


def test_contributing_maps_every_room():
    """The file map has one line for each folder of source files and each tier of tests, and names nothing that is gone."""
    mapped = set(re.findall(r"^(\S+/)\s+\S", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE))
    top = {f"{path.split('/')[0]}/" for path in tracked_files() if "/" in path and not path.startswith(".")}
    packages = {f"{Path(path).parent}/" for path in tracked_files() if path.startswith(ROOMS)}
    modules = "operator/finetune_operator/local/modules/"
    tiers = {f"tests/{path.split('/')[1]}/" for path in tracked_files() if re.fullmatch(r"tests/.*/test_\w+\.py", path)}
    rooms = {room for room in packages if room == modules or not room.startswith(modules)} | tiers
    covered = top - {"contract/", "operator/", "trainer_image/", "tests/", "charts/"}

    assert (rooms | covered) - mapped == set()
    assert [name for name in sorted(mapped) if not (ROOT / name).is_dir()] == []


def test_no_lock_file_names_a_download_address():
    """Requirements are pinned by hash; where they come from is the installer's business."""
    pinned = sorted((ROOT / "requirements").glob("*.txt"))

    assert len(pinned) == 6
    assert [path.name for path in pinned if "://" in path.read_text()] == []


def test_every_extra_is_pinned():
    """Each extra of pyproject.toml that an image installs has a requirements file of its own."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    assert {"operator", "preflight", "trainer", "lm-eval", "sbom", "dev"} <= set(extras)


@pytest.mark.parametrize("image", ["preflight", "trainer", "dev"])
def test_an_extra_pins_what_the_image_has_already_at_the_same_version(image: str):
    """pip installs both files at once, and the tests run with what the image has."""
    pins, extra = (
        dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / f"requirements/{name}.txt").read_text(), re.MULTILINE))
        for name in (image, "lm-eval")
    )

    assert {name: version for name, version in extra.items() if pins.get(name, version) != version} == {}
    assert extra["lm-eval"] == "0.4.13"
    assert len(extra.keys() & pins.keys()) > 40


def test_make_test_names_every_folder_of_tests():
    """It names them in an order, so a new folder must be added; only the tier on real nodes has a target of its own."""
    (line,) = re.findall(r"(tests/unit [^|]*?) \|\|", (ROOT / "Makefile").read_text())
    folders = {f"tests/{path.relative_to(ROOT / 'tests').parts[0]}" for path in (ROOT / "tests").rglob("test_*.py")}

    assert set(line.split()) == folders - {"tests/real_node", "tests/gitops", "tests/serving"}


def test_decisions_are_numbered_and_built_alike():
    """From 0001 on without a gap; each says its status, what led to it, what was decided and what follows."""
    files = sorted((ROOT / "docs/decisions").glob("*.md"))
    headings = [re.findall(r"^#+ .*|^Status: .*", file.read_text(), re.MULTILINE) for file in files]

    assert [file.name[:4] for file in files] == [f"{number:04}" for number in range(1, len(files) + 1)]
    assert [found[0][:8] for found in headings] == [f"# {file.name[:4]}: " for file in files]
    assert [found[1:] for found in headings] == [
        ["Status: accepted", "## Context", "## Decision", "## Consequences"] for _ in files
    ]
    assert len(files) >= 9
