"""Differences between two arms, paired by seed or by picture, and the one rule for what may be said about them.

The report, the tables in README and docs, and the study take their words from `verdict`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from .bootstrap import Interval, bootstrap_mean

CONFIDENCE = 0.95


class Verdict(StrEnum):
    """What may be said about a difference. `UNCLEAR` is not "equal", and `NONE`: a single seed shows nothing."""

    BETTER = "better"
    WORSE = "worse"
    UNCLEAR = "no clear difference"
    NONE = "one seed shows nothing"


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with the half-width of its interval; None for a single seed."""

    mean: float
    half_width: float | None


def estimate(values: Sequence[float], num_comparisons: int = 1) -> Estimate:
    """Mean ± t · s / √n over n independent values, with t of Student's distribution with n − 1 degrees.

    The level is 1 − 0.05/c for c comparisons (Bonferroni): all c intervals hold together with at least 95 %,
    however they depend on each other. Source: Student 1908, "The probable error of a mean"; Dunn 1961, "Multiple
    comparisons among means". One value gives no interval.

    Args:
        num_comparisons: c, of the whole table in which the interval stands.

    Raises:
        ValueError: no values, one that is not finite, or c < 1.
    """
    if not values or not all(math.isfinite(value) for value in values):
        raise ValueError(f"{list(values)} must be finite numbers, at least one")
    if num_comparisons < 1:
        raise ValueError(f"num_comparisons={num_comparisons} must be at least 1")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Estimate(mean, None)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    t = _student_t(len(values) - 1, 1 - (1 - CONFIDENCE) / num_comparisons)
    return Estimate(mean, t * math.sqrt(variance / len(values)))


def paired_difference(values: Sequence[float], baseline: Sequence[float], num_comparisons: int = 1) -> Estimate:
    """The estimate of `values − baseline`, paired by seed: what both share cancels out.

    Raises:
        ValueError: different numbers of values, none, or one that is not finite.
    """
    differences = [value - other for value, other in zip(values, baseline, strict=True)]
    return estimate(differences, num_comparisons)


def verdict(difference: Estimate) -> Verdict:
    """Better or worse where the interval excludes 0; higher values are better."""
    if difference.half_width is None:
        return Verdict.NONE
    return verdict_of(difference.mean - difference.half_width, difference.mean + difference.half_width)


def verdict_of(low: float, high: float) -> Verdict:
    """The same of an interval's ends."""
    if low <= 0 <= high:
        return Verdict.UNCLEAR
    return Verdict.BETTER if low > 0 else Verdict.WORSE


def picture_difference(
    values: ArrayLike,
    baseline: ArrayLike,
    groups: ArrayLike | None,
    num_comparisons: int = 1,
    *,
    num_resamples: int = 4000,
    seed: int = 0,
) -> Interval:
    """The mean of `values − baseline` over items that both arms measured, by a bootstrap that draws whole groups.

    It says what other pictures would give these two models, and nothing of models trained with another seed. The
    level is that of `estimate`, 1 − 0.05/c.

    Args:
        values, baseline: `[N]` each, of the same items in the same order.
        groups: `[N]`, items that succeed and fail together; None: each for itself.
        num_comparisons: c, of the whole table.

    Raises:
        ValueError: lengths that differ, no values, or one that is not finite.
    """
    ours, theirs = np.asarray(values, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    if ours.shape != theirs.shape:
        raise ValueError(f"{ours.shape} values and {theirs.shape} are not of the same items")
    level = 1 - (1 - CONFIDENCE) / num_comparisons
    return bootstrap_mean(ours - theirs, groups, level=level, num_resamples=num_resamples, seed=seed)


def _student_t(degrees: int, level: float) -> float:
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    return float(stdtrit(degrees, (1 + level) / 2))
