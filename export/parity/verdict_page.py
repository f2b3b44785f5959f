"""The verdict as an HTML page: one table, and histograms of the errors, engine by engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from protoclip.reports.pages import render_page

from .report import EngineReport, Report

PAGE_FILE = "verdict.html"
# Decades of 1 - cosine: from float32's rounding errors to those that fail every gate.
_LOW, _HIGH, _BINS = -8.0, 0.0, 32


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram, in percent of its box."""

    left: float
    width: float
    height: float
    title: str


@dataclass(frozen=True)
class Histogram:
    """How many inputs are how far from torch: 1 − centred cosine, from 1e-8 (left) to 1 (right).

    `gate` is the gate's position, in percent from the left; None where it checks no such cosine.
    """

    what: str
    bars: tuple[Bar, ...]
    gate: float | None


def verdict_page(report: Report) -> str:
    """The report as one self-contained HTML file."""
    filters: dict[str, Callable[..., str]] = {
        "small": _small,
        "cosine": _cosine,
        "percent": _percent,
        "cost": _cost,
        "shown": _shown,
        "outcome": _outcome,
    }
    histograms = {engine.name: _histograms(engine) for engine in report.engines}
    return render_page("export", "verdict.html.j2", {"report": report, "histograms": histograms}, filters)


def histogram(what: str, cosines: Sequence[float], least: float | None) -> Histogram:
    """The bars for `cosines` `[N]`; those above 1 - 1e-8 are in the first, those below 0 in the last."""
    errors = np.log10(np.maximum(1 - np.asarray(cosines, dtype=np.float64), 10**_LOW))
    counts, edges = np.histogram(np.clip(errors, _LOW, _HIGH), bins=_BINS, range=(_LOW, _HIGH))
    tallest, width = max(int(counts.max()), 1), 100 / _BINS
    bars = tuple(
        Bar(place * width, width, 100 * count / tallest, f"{count} inputs near 1e{edges[place]:.1f}")
        for place, count in enumerate(counts)
        if count
    )
    gate = None if least is None else 100 * (np.log10(1 - least) - _LOW) / (_HIGH - _LOW)
    return Histogram(what, bars, gate)


def _histograms(engine: EngineReport) -> list[Histogram]:
    least = engine.gate.min_centred_cosine
    sides = (("image", engine.image), ("text", engine.text))
    return [histogram(what, found.centred_cosines, least) for what, found in sides if found.centred_cosines]


def _small(value: float | None) -> str:
    return "–" if value is None else f"{value:.1e}"


def _cosine(value: float | None) -> str:
    return "–" if value is None else f"{value:.7f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _cost(numbers: tuple[float, float]) -> str:
    """The engine's share, and its difference to torch's in percentage points."""
    return f"{100 * numbers[1]:.1f} % ({100 * (numbers[1] - numbers[0]):+.1f})"


def _shown(value: float | str | None) -> str:
    return "–" if value is None else value if isinstance(value, str) else f"{value:.4g}"


def _outcome(engine: EngineReport) -> str:
    if not engine.passed:
        return "failed" if engine.ran else "not run"
    return f"passed, {len(engine.not_checked)} not checked" if engine.not_checked else "passed"
