"""The documentation site is strict: what `make docs` must refuse. Builds real sites from copies of the documents."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("docs", "examples", "charts/finetune-operator/README.md", "mkdocs.yml", "LICENSE")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A repository with nothing but its documents."""
    for name in (*DOCUMENTS, *(path.name for path in ROOT.glob("*.md"))):
        source, target = ROOT / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    return tmp_path


def build(folder: Path) -> list[str]:
    """Return the warnings of a build; none of one that succeeds."""
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(folder / "site")]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={"NO_MKDOCS_2_WARNING": "1"}
    )
    warnings = [line for line in done.stderr.splitlines() if line.startswith(("WARNING", "ERROR"))]
    assert (done.returncode == 0) == (not warnings)
    return warnings


def test_the_site_builds_and_loads_nothing_from_elsewhere(copy: Path):
    """Scripts, styles, fonts and pictures are the site's own."""
    assert build(copy) == []
    pages = [page.read_text() for page in (copy / "site").rglob("*.html")]
    assert len(pages) > 40
    assert [page[:200] for page in pages if 'src="http' in page or 'rel="stylesheet" href="http' in page] == []


@pytest.mark.parametrize(
    ("page", "text", "warning"),
    [
        ("docs/cli.md", "[x](gone.md)", "'gone.md'"),
        ("docs/cli.md", "[x](install.md#gone)", "does not contain an anchor '#gone'"),
        ("README.md", "[x](operator/finetune_operator/errors.py)", "which is not on the site"),
        ("examples/README.md", "[x](../docs/gone.md)", "'../gone.md'"),
        ("docs/orphan.md", "# Nobody links here", "not included in the \"nav\""),
    ],
)  # fmt: skip
def test_a_dead_end_fails_the_build(copy: Path, page: str, text: str, warning: str):
    """A dead link, a dead anchor, a file that the site lacks, a page that no menu leads to."""
    with (copy / page).open("a") as file:
        file.write(f"\n{text}\n")

    assert warning in "\n".join(build(copy))
