"""HTML in small pieces: escaped text, tables, the frame of a page that needs nothing from elsewhere. Pure; called by report_page."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

STYLE = Path(__file__).with_name("report.css").read_text(encoding="utf-8")


HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""
"""The policy keeps a browser from asking for anything, whatever an answer of a model holds."""


def page(title: str, body: Sequence[str]) -> str:
    """Return a page; a browser that opens it asks for nothing else."""
    return HEAD.format(title=escape(title), style=STYLE, body="\n".join(body))


def section(title: str, *parts: str) -> str:
    """Return a section with its parts; nothing without parts."""
    inner = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{escape(title)}</h2>\n{inner}\n</section>" if inner else ""


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: frozenset[int] = frozenset()) -> str:
    """Return a table; the columns `numbers` stand at the right."""
    if not rows:
        return ""
    kinds = (' class="n"' if at in numbers else "" for at in range(len(titles)))
    head = "".join(f"<th{kind}>{escape(title)}</th>" for title, kind in zip(titles, kinds, strict=True))
    body = "".join(f"<tr>{''.join(_cell(cell, at in numbers) for at, cell in enumerate(row))}</tr>\n" for row in rows)
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>'


def _cell(text: str, is_number: bool) -> str:  # of a table above
    return f'<td class="n">{escape(text)}</td>' if is_number else f"<td>{escape(text)}</td>"


def cards(pairs: Sequence[tuple[str, str]]) -> str:
    """Return figures with what they are."""
    made = (f'<div class="card"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for name, value in pairs)
    return f'<div class="cards">{"".join(made)}</div>'


def stacked(parts: Sequence[tuple[str, float, str]], whole: float) -> str:
    """Return a bar of named parts in GiB, as long as `whole`, with its key."""
    pieces, keys = [], []
    for name, size, colour in parts:
        pieces.append(f'<i style="width:{100 * size / whole:.2f}%;background:{colour}"></i>')
        key = f'<span class="key" style="background:{colour}"></span>'
        keys.append(f"<span>{key}{escape(name)} {size:.2f}</span>")
    return f'<div class="bar">{"".join(pieces)}</div><div class="keys">{"".join(keys)}</div>'
