"""A histogram as SVG, for the report. Pure; the colours are the page's, by class, with a light fallback."""

import math
from collections.abc import Sequence

from finetune_operator.cli.svg_curves import BOTTOM, COLOURS, HEIGHT, LEFT, RIGHT, TOP, WIDTH, frame

LABELS = 6
"""Of the horizontal axis, at most."""

TICKS = 4
"""Of the vertical axis, about."""

PERCENT_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 25)


def histogram(rows: Sequence[int], step: int, longest: int, *, mark: tuple[str, int]) -> str:
    """Return bars of `step` tokens each, in percent of the rows; the last one reaches to the longest. `mark` is a named length."""
    total, slots = max(1, sum(rows)), max(1, len(rows))
    most = max(100 * count / total for count in rows)
    tick = next((each for each in PERCENT_STEPS if each * TICKS >= most), PERCENT_STEPS[-1])
    highest = tick * max(1, math.ceil(most / tick))
    wide = (WIDTH - LEFT - RIGHT) / slots
    parts = _grid(tick, highest)
    for at, count in enumerate(rows):
        high = 100 * count / total / highest * (HEIGHT - TOP - BOTTOM)
        until = longest if at == slots - 1 else (at + 1) * step - 1
        parts.append(
            f'<rect x="{LEFT + at * wide:.1f}" y="{HEIGHT - BOTTOM - high:.1f}" width="{max(1, wide - 1):.1f}" height="{high:.1f}" '
            f'fill="{COLOURS[0]}" class="dot0"><title>{at * step:,} to {until:,} tokens: {count:,} rows</title></rect>'
        )
    every = -(-slots // LABELS)
    for at in range(0, slots, every):
        parts.append(f'<text x="{LEFT + at * wide:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{at * step:,}</text>')
    parts += _marked(*mark, step, slots, wide)
    return frame(in_words(rows, step, longest), "".join(parts))


def in_words(rows: Sequence[int], step: int, longest: int) -> str:
    """Return what the picture shows, for those who do not see it."""
    total, most = max(1, sum(rows)), max(range(len(rows)), key=lambda at: rows[at])
    until = longest if most == len(rows) - 1 else (most + 1) * step - 1
    share = 100 * rows[most] / total
    return f"rows by length: the most, {share:.0f} %, have {most * step:,} to {until:,} tokens; the longest has {longest:,}"


def _grid(tick: float, highest: float) -> list[str]:
    parts = []
    for at in range(round(highest / tick) + 1):
        y = HEIGHT - BOTTOM - at * tick / highest * (HEIGHT - TOP - BOTTOM)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid" stroke="#8884"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{at * tick:.3g} %</text>')
    return parts


def _marked(name: str, length: int, step: int, slots: int, wide: float) -> list[str]:
    """Return a line at a length; nothing where it is beyond the bars."""
    if length > slots * step:
        return []
    x = LEFT + length / step * wide
    beside, anchor = (x - 6, "end") if x > WIDTH / 2 else (x + 6, "start")
    return [
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 22}" y2="{HEIGHT - BOTTOM}" stroke="{COLOURS[1]}" stroke-width="2" '
        'stroke-dasharray="4 3" class="line1"/>',
        f'<text x="{beside:.1f}" y="{TOP - 12}" text-anchor="{anchor}">{name} {length:,}</text>',
    ]
