"""Training and held-out loss over the steps as an SVG picture, beside the model card. Pure text. Called by artifacts."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from finetune_trainer.publishing.published import Published

CURVES_FILE = "curves.svg"
WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 28, 36
MOST_POINTS = 400
"""Of a curve: more than one for two pixels are averaged."""

TRAINED, MEASURED = "#8fb8c9", "#c2410c"
Point = tuple[float, float]


def points(history: Iterable[Mapping[str, Any]], name: str) -> list[Point]:
    """Return (step, value) of what was logged under a name."""
    found = ((entry["step"], entry[name]) for entry in history if name in entry and "step" in entry)
    return [(float(step), float(value)) for step, value in found if math.isfinite(value)]


def held_out_points(published: Published) -> list[Point]:
    """Return the held-out losses: of the base model, on the way, and of what is published."""
    found, result = points(published.history, "eval_loss"), published.evaluation
    if result is None:
        return found
    first = [(0.0, result.base_loss)] if result.base_loss is not None else []
    last = [(float(published.steps), result.tuned_loss)] if not found or found[-1][0] < published.steps else []
    return [*first, *found, *last]


def curves(trained: Sequence[Point], measured: Sequence[Point]) -> str:
    """Return the picture; empty where there is nothing to draw."""
    drawn = [*trained, *measured]
    if len({step for step, _ in drawn}) < 2:
        return ""
    steps, values = zip(*drawn, strict=True)
    frame = Frame(last=max(steps), least=min(values), most=max(values))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *frame.axes(),
        frame.line(thinned(trained), TRAINED, 1),
        frame.line(measured, MEASURED, 2),
        *frame.dots(measured),
        *_legend(bool(trained), bool(measured)),
        "</svg>",
    ]
    return "\n".join(line for line in lines if line) + "\n"


class Frame:
    """Where a step and a value are on the picture."""

    def __init__(self, *, last: float, least: float, most: float) -> None:
        room = max(most - least, 1e-9) * 0.05
        self.last, self.least, self.most = last, least - room, most + room

    def place(self, point: Point) -> tuple[float, float]:
        """Return x and y in pixels."""
        step, value = point
        x = LEFT + (WIDTH - LEFT - RIGHT) * step / self.last
        y = TOP + (HEIGHT - TOP - BOTTOM) * (self.most - value) / (self.most - self.least)
        return round(x, 1), round(y, 1)

    def line(self, drawn: Sequence[Point], colour: str, width: int) -> str:
        """Return a curve; empty for a single point."""
        if len(drawn) < 2:
            return ""
        places = " ".join(f"{x},{y}" for x, y in map(self.place, drawn))
        return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="{width}"/>'

    def dots(self, drawn: Sequence[Point]) -> Iterator[str]:
        """Yield a dot with its figures for each point: a viewer shows them under the pointer."""
        for point in drawn if len(drawn) <= MOST_POINTS else ():
            x, y = self.place(point)
            title = f"step {point[0]:,.0f}: {point[1]:.4f}"
            yield f'<circle cx="{x}" cy="{y}" r="3" fill="{MEASURED}"><title>{title}</title></circle>'

    def axes(self) -> Iterator[str]:
        """Yield lines and numbers."""
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        for value in ticks(self.least, self.most):
            _, y = self.place((0, value))
            yield f'<path d="M{LEFT} {y}H{right}" stroke="#e5e7eb"/>'
            yield f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end" fill="#374151">{value:.4g}</text>'
        for step in ticks(0, self.last):
            x, _ = self.place((step, self.least))
            yield f'<text x="{x}" y="{bottom + 16}" text-anchor="middle" fill="#374151">{step:,.0f}</text>'
        yield f'<path d="M{LEFT} {TOP}V{bottom}H{right}" stroke="#9ca3af" fill="none"/>'
        yield f'<text x="{right}" y="{HEIGHT - 4}" text-anchor="end" fill="#374151">step</text>'


def ticks(least: float, most: float) -> list[float]:
    """Return about five round numbers between two."""
    rough = (most - least) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(least / step)
    return [round(step * number, 10) for number in range(first, math.floor(most / step) + 1)]


def thinned(drawn: Sequence[Point]) -> list[Point]:
    """Return at most MOST_POINTS points: means of neighbours."""
    size = -(-len(drawn) // MOST_POINTS) or 1
    groups = [drawn[start : start + size] for start in range(0, len(drawn), size)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]


def _legend(trained: bool, measured: bool) -> Iterator[str]:
    x = LEFT
    for shown, colour, text in ((trained, TRAINED, "training loss"), (measured, MEASURED, "held-out loss")):
        if shown:
            yield f'<path d="M{x} 14h20" stroke="{colour}" stroke-width="3"/>'
            yield f'<text x="{x + 26}" y="18" fill="#111827">{text}</text>'
            x += 130
