"""Line charts: ticks, gaps, marks and well-formed SVG."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protoclip.reports.charts import Frame, Line, Mark, line_chart, nice_ticks, smooth, tick_text

FRAME = Frame(400, 200, x_label="step", left=40, right=10, top=10, bottom=30)


def paths(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return [element.attrib["d"] for element in root.iter("path")]


def test_a_line_runs_from_corner_to_corner() -> None:
    (path,) = paths(line_chart([Line("loss", 0, [0, 10], [0.0, 1.0])], FRAME))
    assert path == "M40.0 170.0L390.0 10.0"


def test_missing_and_infinite_values_leave_gaps() -> None:
    ys = [1.0, 2.0, None, 1.0, float("nan"), 2.0, 2.0]
    (path,) = paths(line_chart([Line("loss", 0, range(7), ys)], FRAME))
    assert re.sub(r"[\d. ]", "", path) == "MLMML"


def test_names_are_escaped() -> None:
    svg = line_chart([Line("<a> & b", 0, [0, 1], [0, 1])], FRAME, [Mark(0.5, "<mark>")])
    root = ElementTree.fromstring(svg)
    assert root.attrib["aria-label"] == "<a> & b"
    assert "<mark>" in [element.text for element in root.iter("text")]


def test_marks_outside_the_data_are_left_out() -> None:
    svg = line_chart([Line("a", 0, [5, 10], [0, 1])], FRAME, [Mark(4, "before"), Mark(7, "inside")])
    assert "inside" in svg
    assert "before" not in svg


def test_nothing_to_draw_is_nothing() -> None:
    assert line_chart([], FRAME) == ""
    assert line_chart([Line("a", 0, [1, 2], [None, float("inf")])], FRAME) == ""


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 10, [0, 2, 4, 6, 8, 10]), (0.2, 0.9, [0.2, 0.4, 0.6, 0.8, 1.0]), (3, 3, [1, 2, 3, 4, 5])],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert nice_ticks(low, high, 5) == pytest.approx(expected)


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(2, 12))
def test_ticks_enclose_the_data_and_are_not_too_many(low: float, span: float, count: int) -> None:
    ticks = nice_ticks(low, low + span, count)
    assert 2 <= len(ticks) <= count + 2
    assert ticks[0] <= low + 1e-6 * max(1, abs(low), span)
    assert ticks[-1] >= low + span - 1e-6 * max(1, abs(low), span)


def test_smoothing_keeps_a_straight_line_and_the_gaps() -> None:
    assert smooth([1.0, 2.0, 3.0, 4.0, 5.0], 3)[1:-1] == [2.0, 3.0, 4.0]
    assert smooth([4.0, None, 8.0], 3) == [4.0, None, 8.0]
    assert smooth([1.0, 5.0], 1) == [1.0, 5.0]


def test_tick_texts() -> None:
    assert [tick_text(value) for value in (1500, 0.5, 0.25, -2.0, 1e6)] == [
        "1,500",
        "0.5",
        "0.25",
        "−2",
        "1,000,000",
    ]
