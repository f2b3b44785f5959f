"""What learning curves say beside the ends of runs: equal time, and steps for equal quality.

A curve is a list of points (step, recall at 5), ascending; before the first point it comes from (0, 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from evidence_measures import Measured

Curve = Sequence[tuple[float, float]]


def curve_of(run: Measured) -> list[tuple[float, float]]:
    """Recall at 5 of unseen concepts, by step."""
    return [(float(step), at_5) for step, _, at_5 in run.curve]


def value_at(curve: Curve, place: float) -> float:
    """By linear interpolation; beyond the last point the last value."""
    return float(np.interp(place, [0.0, *(x for x, _ in curve)], [0.0, *(y for _, y in curve)]))


def first_reached(curve: Curve, value: float) -> float | None:
    """The first place at which the curve has `value`, by linear interpolation; None where it never has."""
    before = (0.0, 0.0)
    for point in curve:
        if point[1] >= value:
            rise = point[1] - before[1]
            share = (value - before[1]) / rise if rise > 0 else 1.0
            return before[0] + max(0.0, share) * (point[0] - before[0])
        before = point
    return None


@dataclass(frozen=True)
class EqualTime:
    """Two runs of a seed when the shorter one ended.

    Attributes:
        ratio: the arm's time for a step by the baseline's.
        value, baseline: recall at 5 at that time, in percent.
    """

    ratio: float
    value: float
    baseline: float


def at_equal_time(run: Measured, baseline: Measured) -> EqualTime | None:
    """By processor time, in which other work on the machine counts least; steps are taken to last equally long.

    None where a run has no processor time: it was resumed, or its time was not taken.
    """
    if not run.cpu_seconds or not baseline.cpu_seconds:
        return None
    steps, other = run.curve[-1][0], baseline.curve[-1][0]
    own, theirs = run.cpu_seconds / steps, baseline.cpu_seconds / other
    ends = min(run.cpu_seconds, baseline.cpu_seconds)
    return EqualTime(
        own / theirs, value_at(curve_of(run), ends / own), value_at(curve_of(baseline), ends / theirs)
    )


def steps_needed(run: Measured, baseline: Measured) -> float | None:
    """Steps after which the baseline has what the run ends with, by the run's steps; None: it never has."""
    found = first_reached(curve_of(baseline), run.curve[-1][2])
    return None if found is None else found / run.curve[-1][0]
