"""Scatter charts as SVG text, both axes in the same unit, so that distances on the page are distances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup, escape

from .charts import Frame, Scale, draw_grid, nice_ticks

Point = tuple[float, float]

_LEAST_HEIGHT = 170
"""Least height inside the axes: the vertical axis's name needs it."""

_MARGIN = 0.03
"""Share of the width or height that is left free around the outermost points."""


@dataclass(frozen=True)
class Dots:
    """Points of one colour and shape.

    Attributes:
        style: number of the page's colour, from 0.
        square: squares instead of circles.
        points: (x, y).
        titles: as many, shown under the pointer; empty for none.
    """

    style: int
    square: bool
    points: Sequence[Point]
    titles: Sequence[str] = ()


@dataclass(frozen=True)
class Level:
    """A labelled horizontal line at y."""

    y: float
    label: str


def scatter_chart(
    dots: Sequence[Dots],
    frame: Frame,
    label: str,
    links: Sequence[tuple[Point, Point]] = (),
    levels: Sequence[Level] = (),
    radius: float = 2.7,
) -> Markup:
    """An `<svg>` of points, or nothing where there are none.

    Classes in it: those of `line_chart`, `link`, and `dots c<style>` around the points of one kind.

    Args:
        dots: all points, the later above the earlier.
        frame: size and axes; less high where the points need less.
        label: name of the chart for screen readers.
        links: thin lines below the points.
        levels: horizontal lines, named right of the frame's inner edge.
        radius: of a point, in the SVG's units.
    """
    points = [point for group in dots for point in group.points]
    if not points:
        return Markup("")
    scale = _same_unit(points, frame)
    frame = scale.frame
    parts = [
        *draw_grid(scale, _ticks(scale.xs, frame.width, 90), _ticks(scale.ys, frame.height, 60)),
        *(_link(scale, *ends) for ends in links),
        *(text for level in levels for text in _level(scale, level)),
        *(_group(scale, group, radius) for group in dots),
    ]
    size = f"0 0 {frame.width} {frame.height}"
    return Markup(f'<svg viewBox="{size}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>')


def _same_unit(points: Sequence[Point], frame: Frame) -> Scale:
    """Reduces the frame's height to what the points need, or widens a range about its middle, until a unit has
    the same length on both axes."""
    lows = [min(point[axis] for point in points) for axis in (0, 1)]
    highs = [max(point[axis] for point in points) for axis in (0, 1)]
    width, edges = frame.width - frame.left - frame.right, frame.top + frame.bottom
    spans = [high - low for low, high in zip(lows, highs, strict=True)]
    if spans[0] > 0:
        needed = max(_LEAST_HEIGHT, width * spans[1] / spans[0])
        frame = replace(frame, height=min(frame.height, round(needed) + edges))
    height = frame.height - edges
    unit = max(spans[0] / width, spans[1] / height) or 1.0
    halves = [unit * length * (0.5 + _MARGIN) for length in (width, height)]
    middles = [(low + high) / 2 for low, high in zip(lows, highs, strict=True)]
    ends = [(middle - half, middle + half) for middle, half in zip(middles, halves, strict=True)]
    return Scale(frame, ends[0], ends[1])


def _ticks(ends: tuple[float, float], length: int, apart: int) -> list[float]:
    return [tick for tick in nice_ticks(*ends, max(2, length // apart)) if ends[0] <= tick <= ends[1]]


def _link(scale: Scale, start: Point, end: Point) -> str:
    place = f'x1="{scale.x(start[0])}" y1="{scale.y(start[1])}" x2="{scale.x(end[0])}" y2="{scale.y(end[1])}"'
    return f'<line class="link" {place}/>'


def _level(scale: Scale, level: Level) -> list[str]:
    y, right = scale.y(level.y), scale.frame.width - scale.frame.right
    return [
        f'<line class="mark" x1="{scale.frame.left}" x2="{right}" y1="{y}" y2="{y}"/>',
        f'<text class="tick" x="{right + 5}" y="{round(y + 4, 1)}">{escape(level.label)}</text>',
    ]


def _group(scale: Scale, dots: Dots, radius: float) -> str:
    titles = dots.titles or [""] * len(dots.points)
    drawn = (
        _dot(scale.x(x), scale.y(y), dots.square, radius, title)
        for (x, y), title in zip(dots.points, titles, strict=True)
    )
    return f'<g class="dots c{dots.style}">{"".join(drawn)}</g>'


def _dot(x: float, y: float, square: bool, radius: float, title: str) -> str:
    inside = f"<title>{escape(title)}</title>" if title else ""
    if square:
        # The same area as the circle, not the same width.
        side = round(radius * 1.77, 1)
        place = f'x="{round(x - side / 2, 1)}" y="{round(y - side / 2, 1)}"'
        return f'<rect {place} width="{side}" height="{side}">{inside}</rect>'
    return f'<circle cx="{x}" cy="{y}" r="{radius}">{inside}</circle>'
