"""Confidence intervals by resampling, in NumPy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_MAX_DRAWN = 1 << 18


@dataclass(frozen=True)
class Interval:
    """A mean and the percentile interval around it."""

    mean: float
    low: float
    high: float


def bootstrap_mean(
    values: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    level: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap of a mean: items are drawn with replacement, `num_resamples` times.

    With `groups` whole groups are drawn: pictures of one concept succeed and fail together, and drawing
    them apart would make the interval too narrow. Source: Efron and Tibshirani 1993, chapter 13.

    Args:
        values: `[N]`, for instance hits as 0 and 1.
        groups: `[N]`, any values; equal ones belong together. None: every item for itself.
        level: share of the resampled means that lies inside the interval.
        num_resamples: how many means are drawn.
        seed: the same seed and data give the same interval.

    Raises:
        ValueError: no values, a value that is not finite, lengths that differ, or a level outside (0, 1).
    """
    values = np.asarray(values, dtype=np.float64)
    if not values.size or not np.isfinite(values).all():
        raise ValueError("the mean needs at least one value, and finite ones")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level={level} must lie in (0, 1)")
    sums, sizes = _per_group(values, None if groups is None else np.asarray(groups))
    means = _resampled_means(sums, sizes, num_resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high))


def _per_group(
    values: NDArray[np.float64], groups: NDArray[np.generic] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if groups is None:
        return values, np.ones_like(values)
    if groups.shape != values.shape:
        raise ValueError(f"groups {groups.shape} must name a group for each of the {values.shape} values")
    _, members = np.unique(groups, return_inverse=True)
    return np.bincount(members, weights=values).astype(np.float64), np.bincount(members).astype(np.float64)


def _resampled_means(
    sums: NDArray[np.float64], sizes: NDArray[np.float64], num_resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    means = np.empty(num_resamples)
    chunk = max(1, _MAX_DRAWN // len(sums))
    for start in range(0, num_resamples, chunk):
        rows = slice(start, min(start + chunk, num_resamples))
        drawn = rng.integers(len(sums), size=(rows.stop - start, len(sums)))
        means[rows] = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    return means
