"""What the site adds to docs/: pages that live elsewhere in the repository, and links between all of them.

A link is written as it works in the repository (`../examples/02-lora-s3/README.md`). Here it becomes the link that works on the
site. A link to a file that the site does not have is a warning, and with that an error. Called by mkdocs.
"""

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
LOG = logging.getLogger("mkdocs.hooks")
LINK = re.compile(r"(\]\()([^)\s#]*)(#[^)\s]*)?(\))")
CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)

PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "examples/README.md": "examples/overview.md",
    "charts/finetune-operator/README.md": "reference/chart.md",
    **{
        path.relative_to(ROOT).as_posix(): f"examples/{path.parent.name}.md"
        for path in sorted((ROOT / "examples").glob("*/README.md"))
    },
}
"""Pages from outside docs/: path in the repository -> path on the site."""

ASSETS = {
    path.relative_to(ROOT).as_posix(): path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").rglob("*.yaml")
} | {"LICENSE": "LICENSE.txt"}
"""Files that pages link to."""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and files from outside docs/."""
    for source, target in (PAGES | ASSETS).items():
        files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
    files.append(File.generated(config, "decisions/index.md", content=decisions()))
    return files


def decisions() -> str:
    """Return the list of the decisions by their titles."""
    pages = sorted((ROOT / "docs/decisions").glob("*.md"))
    titles = {path.name: path.read_text().partition("\n")[0].lstrip("# ") for path in pages}
    rows = (f"* [{title}]({name})" for name, title in titles.items())
    return "\n".join(
        ["# Decisions", "", "Choices that a reader would wonder about, with what was considered.", "", *rows]
    )


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:  # noqa: ARG001  # mkdocs' signature
    """Turn links of the repository into links of the site."""
    if page.is_homepage:
        page.meta["hide"] = ["navigation"]
    parts = CODE.split(markdown)
    return "".join(part if CODE.fullmatch(part) else LINK.sub(lambda m: relinked(m, page), part) for part in parts)


def relinked(found: re.Match[str], page: Any) -> str:
    """Return a link as it works on the site."""
    start, target, anchor, end = found.groups()
    if not target or re.match(r"\w+:", target):
        return found[0]
    site = page.file.src_uri
    source = next((path for path, uri in PAGES.items() if uri == site), f"docs/{site}")
    wanted = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    place = site_path(wanted)
    if place is None:
        LOG.warning("%s links to %s, which is not on the site", source, wanted)
        return found[0]
    return f"{start}{posixpath.relpath(place, posixpath.dirname(site) or '.')}{anchor or ''}{end}"


def site_path(path: str) -> str | None:
    """Return where a file or folder of the repository is on the site; None where it is not."""
    if path == "docs/decisions":
        return "decisions/index.md"
    if (ROOT / path).is_dir():
        path += "/README.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return PAGES.get(path) or ASSETS.get(path)
