"""Coordinates for a plot of throughput against latency; both axes are logarithmic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .results import Cell, EncoderName

WIDTH, HEIGHT = 880, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 24, 16, 46
_STEPS = (1, 2, 5)


@dataclass(frozen=True)
class Point:
    """One batch size of a candidate."""

    x: float
    y: float
    batch: int
    title: str


@dataclass(frozen=True)
class Curve:
    """One candidate; `style` is the number of its colour, from 0."""

    name: str
    style: int
    points: tuple[Point, ...]

    @property
    def path(self) -> str:
        """The SVG path through all points."""
        return "M" + "L".join(f"{point.x} {point.y}" for point in self.points)


@dataclass(frozen=True)
class Tick:
    """A round number on an axis, and its position."""

    place: float
    text: str


@dataclass(frozen=True)
class Plot:
    """One encoder's plot; `limit` is the position of the latency limit, None where there is none."""

    encoder: EncoderName
    curves: tuple[Curve, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    limit: float | None
    left: float = _LEFT
    right: float = WIDTH - _RIGHT
    top: float = _TOP
    bottom: float = HEIGHT - _BOTTOM
    width: int = WIDTH
    height: int = HEIGHT


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        part = (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return round(self.start + part * (self.end - self.start), 1)

    def ticks(self) -> tuple[Tick, ...]:
        inside = _round_numbers(self.low, self.high, _STEPS)
        if len(inside) > 10:
            inside = _round_numbers(self.low, self.high, (1,))
        return tuple(Tick(self.place(value), f"{value:,.10g}") for value in inside)


def make_plot(
    encoder: EncoderName, cells: Sequence[Cell], candidates: Sequence[str], max_latency_ms: float | None = None
) -> Plot:
    """The plot of one encoder's cells, p99 latency to the right; raises ValueError for no cells.

    Colours follow the order of `candidates`, so that two plots agree.
    """
    if not cells:
        raise ValueError("there are no cells to draw")
    latencies = [cell.p99_ms for cell in cells] + ([] if max_latency_ms is None else [max_latency_ms])
    across = _axis(latencies, _LEFT, WIDTH - _RIGHT)
    up = _axis([cell.items_per_s for cell in cells], HEIGHT - _BOTTOM, _TOP)
    curves = []
    for style, name in enumerate(candidates):
        own = sorted((cell for cell in cells if cell.candidate == name), key=lambda cell: cell.batch)
        points = tuple(
            Point(across.place(cell.p99_ms), up.place(cell.items_per_s), cell.batch, _title(cell)) for cell in own
        )
        if points:
            curves.append(Curve(name, style, points))
    limit = None if max_latency_ms is None else across.place(max_latency_ms)
    return Plot(encoder, tuple(curves), across.ticks(), up.ticks(), limit)


def _axis(values: Sequence[float], start: float, end: float) -> _Axis:
    # A margin of a tenth on both sides, more where all values are equal.
    low, high = min(values), max(values)
    air = max((high / low) ** 0.08, 1.15)
    return _Axis(low / air, high * air, start, end)


def _round_numbers(low: float, high: float, steps: Sequence[int]) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    numbers = [float(f"{step}e{decade}") for decade in decades for step in steps]
    return [number for number in numbers if low <= number <= high]


def _title(cell: Cell) -> str:
    return f"{cell.candidate}, batch {cell.batch}: {cell.items_per_s:.1f}/s, p99 {cell.p99_ms:.2f} ms"
