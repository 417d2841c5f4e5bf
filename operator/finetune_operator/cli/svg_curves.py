"""Curves as SVG: for the report and for `compare --plot`. Pure; the colours are the page's, by class, with a light fallback."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import isfinite

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 28, 30
MOST_POINTS = 400
TICKS = 4
COLOURS = ("#0f766e", "#b45309", "#6d28d9", "#be123c", "#1d4ed8", "#4d7c0f")


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A named line."""

    name: str
    points: Sequence[tuple[float, float]]


def picture(curves: Sequence[Curve], *, title: str) -> str:
    """Return a chart with axes, ticks and a legend; a sentence where there is nothing to draw."""
    drawn = [Curve(name=curve.name, points=thinned(curve.points)) for curve in curves]
    values = [point for curve in drawn for point in curve.points]
    if not values:
        return frame(title, f'<text x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle">no measurements</text>')
    xs, ys = [x for x, _ in values], [y for _, y in values]
    scale = _Scale(min(xs), max(xs), min(ys), max(ys))
    parts = [_axes(scale)]
    for index, curve in enumerate(drawn):
        colour = COLOURS[index % len(COLOURS)]
        line = " ".join(f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in curve.points)
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2" class="line{index % len(COLOURS)}"/>'
        )
        if len(curve.points) == 1:
            x, y = curve.points[0]
            parts.append(
                f'<circle cx="{scale.x(x):.1f}" cy="{scale.y(y):.1f}" r="3" fill="{colour}" class="dot{index % len(COLOURS)}"/>'
            )
    parts.append(_legend([curve.name for curve in drawn]))
    return frame(title, "".join(parts))


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most some hundred points, means of neighbours; values that are not numbers are left out."""
    kept = [(x, y) for x, y in points if isfinite(x) and isfinite(y)]
    size = -(-len(kept) // MOST_POINTS) or 1
    groups = [kept[start : start + size] for start in range(0, len(kept), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


@dataclass(frozen=True, slots=True)
class _Scale:
    least_x: float
    most_x: float
    least_y: float
    most_y: float

    def x(self, value: float) -> float:
        span = self.most_x - self.least_x
        return LEFT + ((value - self.least_x) / span if span else 0.5) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        span = self.most_y - self.least_y
        return HEIGHT - BOTTOM - ((value - self.least_y) / span if span else 0.5) * (HEIGHT - TOP - BOTTOM)


def _axes(scale: _Scale) -> str:
    parts = []
    for index in range(TICKS + 1):
        share = index / TICKS
        y, x = (
            low + share * (high - low) for low, high in ((scale.least_y, scale.most_y), (scale.least_x, scale.most_x))
        )
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{scale.y(y):.1f}" y2="{scale.y(y):.1f}" class="grid" stroke="#8884"/>'
        )
        parts.append(f'<text x="{LEFT - 6}" y="{scale.y(y) + 4:.1f}" text-anchor="end">{tick(y)}</text>')
        parts.append(f'<text x="{scale.x(x):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{x:,.0f}</text>')
        if scale.least_x == scale.most_x or scale.least_y == scale.most_y:
            break
    return "".join(parts)


def tick(value: float) -> str:
    """Return a value for an axis, in at most seven characters."""
    return f"{value:.1e}".replace("e-0", "e-") if value and abs(value) < 0.01 else f"{value:.3g}"


def _legend(names: Sequence[str]) -> str:
    parts, x = [], float(LEFT)
    for index, name in enumerate(names):
        colour = COLOURS[index % len(COLOURS)]
        parts.append(
            f'<rect x="{x:.0f}" y="8" width="10" height="10" fill="{colour}" class="dot{index % len(COLOURS)}"/>'
        )
        parts.append(f'<text x="{x + 14:.0f}" y="17">{escape(name)}</text>')
        x += 30 + 7 * len(name)
    return "".join(parts)


def frame(title: str, inner: str) -> str:
    """Return a picture that screen readers know by its title."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" '
        f'font-family="sans-serif" font-size="12" fill="currentColor">{inner}</svg>'
    )
