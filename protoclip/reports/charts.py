"""Line charts as SVG text. Colours come from the page's style sheet, for light and dark mode."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape


@dataclass(frozen=True)
class Line:
    """One curve. A point whose y is None or not finite leaves a gap.

    Attributes:
        name: what the legend calls it.
        style: number of the page's colour, from 0.
        xs: ascending.
        ys: as many.
    """

    name: str
    style: int
    xs: Sequence[float]
    ys: Sequence[float | None]


@dataclass(frozen=True)
class Mark:
    """A labelled vertical line at x."""

    x: float
    label: str


@dataclass(frozen=True)
class Frame:
    """Size of a chart and the labels of its axes; lengths are in the SVG's own units."""

    width: int
    height: int
    x_label: str = ""
    y_label: str = ""
    left: int = 46
    right: int = 12
    top: int = 12
    bottom: int = 34


def line_chart(lines: Sequence[Line], frame: Frame, marks: Sequence[Mark] = ()) -> Markup:
    """An `<svg>` with axes from the data's own range, or nothing where there is no point to draw.

    Classes in it: `grid`, `tick`, `mark`, `line c<style>`.
    """
    points = [
        (x, y)
        for line in lines
        for x, y in zip(line.xs, line.ys, strict=True)
        if y is not None and math.isfinite(y)
    ]
    if not points:
        return Markup("")
    x_ticks = nice_ticks(min(x for x, _ in points), max(x for x, _ in points), max(2, frame.width // 90))
    y_ticks = nice_ticks(min(y for _, y in points), max(y for _, y in points), max(2, frame.height // 55))
    scale = Scale(frame, (min(x for x, _ in points), max(x for x, _ in points)), (y_ticks[0], y_ticks[-1]))
    parts = [*draw_grid(scale, x_ticks, y_ticks), *_marks(scale, marks), *(_curve(scale, line) for line in lines)]
    label = escape(", ".join(line.name for line in lines))
    return Markup(
        f'<svg viewBox="0 0 {frame.width} {frame.height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    )


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers that enclose [low, high]; at least two, also where low equals high."""
    if high <= low:
        low, high = low - (abs(low) / 2 or 0.5), high + (abs(high) / 2 or 0.5)
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def smooth(values: Sequence[float | None], window: int) -> list[float | None]:
    """Centred moving mean over `window` points; gaps stay gaps and are ignored in the means."""
    half = window // 2
    result: list[float | None] = []
    for place, value in enumerate(values):
        near = [v for v in values[max(0, place - half) : place + half + 1] if v is not None and math.isfinite(v)]
        result.append(None if value is None or not near else sum(near) / len(near))
    return result


def tick_text(value: float) -> str:
    """`1500` → `1,500`; `0.50` → `0.5`; `-2` → `−2`."""
    return (f"{value:,.0f}" if float(value).is_integer() else f"{value:.6g}").replace("-", "−")


@dataclass(frozen=True)
class Scale:
    """Where a value lies in a frame: `xs` and `ys` are the values at its inner edges."""

    frame: Frame
    xs: tuple[float, float]
    ys: tuple[float, float]

    def x(self, value: float) -> float:
        span = (self.xs[1] - self.xs[0]) or 1.0
        inner = self.frame.width - self.frame.left - self.frame.right
        return round(self.frame.left + (value - self.xs[0]) / span * inner, 1)

    def y(self, value: float) -> float:
        inner = self.frame.height - self.frame.top - self.frame.bottom
        return round(self.frame.top + (self.ys[1] - value) / (self.ys[1] - self.ys[0]) * inner, 1)


def draw_grid(scale: Scale, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> list[str]:
    """Lines and labels of the ticks, and what is written at the axes; x ticks outside the range are left out."""
    frame = scale.frame
    parts = []
    for tick in y_ticks:
        y = scale.y(tick)
        parts.append(f'<line class="grid" x1="{frame.left}" x2="{frame.width - frame.right}" y1="{y}" y2="{y}"/>')
        parts.append(
            f'<text class="tick" x="{frame.left - 7}" y="{y + 4}" text-anchor="end">{tick_text(tick)}</text>'
        )
    bottom = frame.height - frame.bottom + 16
    for tick in x_ticks:
        if scale.xs[0] <= tick <= scale.xs[1]:
            place = f'x="{scale.x(tick)}" y="{bottom}"'
            parts.append(f'<text class="tick" {place} text-anchor="middle">{tick_text(tick)}</text>')
    if frame.x_label:
        middle = (frame.left + frame.width - frame.right) / 2
        label = escape(frame.x_label)
        parts.append(f'<text class="tick" x="{middle}" y="{frame.height - 3}" text-anchor="middle">{label}</text>')
    if frame.y_label:
        middle = (frame.top + frame.height - frame.bottom) / 2
        turned = f'x="12" y="{middle}" transform="rotate(-90 12 {middle})" text-anchor="middle"'
        parts.append(f'<text class="tick" {turned}>{escape(frame.y_label)}</text>')
    return parts


def _marks(scale: Scale, marks: Sequence[Mark]) -> list[str]:
    frame = scale.frame
    parts = []
    for mark in marks:
        if scale.xs[0] <= mark.x <= scale.xs[1]:
            x, bottom = scale.x(mark.x), frame.height - frame.bottom
            parts.append(f'<line class="mark" x1="{x}" x2="{x}" y1="{frame.top}" y2="{bottom}"/>')
            parts.append(f'<text class="tick" x="{x + 4}" y="{frame.top + 10}">{escape(mark.label)}</text>')
    return parts


def _curve(scale: Scale, line: Line) -> str:
    drawn = [
        (scale.x(x), scale.y(y)) if y is not None and math.isfinite(y) else None
        for x, y in zip(line.xs, line.ys, strict=True)
    ]
    steps = [
        f"{'L' if before is not None else 'M'}{here[0]} {here[1]}"
        for before, here in pairwise([None, *drawn])
        if here is not None
    ]
    return f'<path class="line c{line.style}" d="{"".join(steps)}"><title>{escape(line.name)}</title></path>'
