"""A run as an HTML page: the latencies over time, their distribution, and all numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from protoclip.client.embedder import Role
from protoclip.reports.charts import Frame, Line, line_chart
from protoclip.reports.pages import render_page

from .failures import MEANINGS
from .result import Moment, Result

NAMES: dict[Role, str] = {"image": "pictures", "text": "texts"}
_FRAME = Frame(1080, 300, x_label="seconds")
_COLOURS: dict[Role, tuple[int, int]] = {"image": (4, 12), "text": (5, 7)}
_FAILED = 13


@dataclass(frozen=True)
class Chart:
    """A chart and its legend: colour and name of each line."""

    title: str
    note: str
    svg: Markup
    legend: tuple[tuple[int, str], ...]


def load_test_page(result: Result) -> str:
    """The run as one self-contained HTML file."""
    context = {"result": result, "charts": _charts(result), "names": NAMES, "meanings": MEANINGS}
    return render_page("protoclip.load_test", "load_test.html.j2", context, {"number": _number})


def _charts(result: Result) -> list[Chart]:
    percentiles, rates = [], []
    for role, (first, second) in _COLOURS.items():
        moments = result.timeline.get(role, ())
        if not moments:
            continue
        name = NAMES[role]
        percentiles += [
            _line(f"{name} p50", first, moments, [moment.p50_ms for moment in moments]),
            _line(f"{name} p99", second, moments, [moment.p99_ms for moment in moments]),
        ]
        rates.append(_line(f"{name} answered", first, moments, _per_s([m.answered for m in moments], result)))
    failed = [sum(at) for at in zip(*([m.failed for m in of] for of in result.timeline.values()), strict=True)]
    if any(failed):
        rates.append(_line("failed", _FAILED, next(iter(result.timeline.values())), _per_s(failed, result)))
    return [
        _chart("Latency", "milliseconds, by when a request was due; a gap: nothing was answered", percentiles),
        _chart("Rate", "requests a second, by when they were due", rates),
    ]


def _chart(title: str, note: str, lines: Sequence[Line]) -> Chart:
    return Chart(title, note, line_chart(lines, _FRAME), tuple((line.style, line.name) for line in lines))


def _line(name: str, style: int, moments: Sequence[Moment], values: Sequence[float | None]) -> Line:
    return Line(name, style, [moment.at_s for moment in moments], values)


def _per_s(counts: Sequence[int], result: Result) -> list[float]:
    duration_s = result.settings["duration_s"]
    assert isinstance(duration_s, float | int)
    return [count * len(counts) / duration_s for count in counts]


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"
