"""How much of what a search finds is lost where vectors are mapped. `Q` queries, `n` entries, `E` embedding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .vectors import Array

K = 10
_QUERIES = 256
_DRAWS = 2000


@dataclass(frozen=True)
class Recall:
    """The share of the 10 nearest embedded entries that a search among mapped ones has in its first 10.

    Attributes:
        mean: of all queries.
        low: of a 95 % interval, by drawing queries anew.
        high: of the same.
        queries: Q.
        among: n. Among more entries it is lower, as their neighbours lie closer together.
    """

    mean: float
    low: float
    high: float
    queries: int
    among: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f}, {self.queries} queries among {self.among})"


def measure_recall(
    queries: Array, embedded: Array, mapped: Array, own: NDArray[np.int64] | None = None, seed: int = 0
) -> Recall:
    """Searches `embedded` and `mapped` `[n, E]`, n above 10, for each of `queries` `[Q, E]`; all of unit norm.

    Args:
        own: `[Q]`, the row of each query's own entry, which is no hit.
    """
    shares = np.empty(len(queries))
    for start in range(0, len(queries), _QUERIES):
        rows = slice(start, start + _QUERIES)
        skipped = None if own is None else own[rows]
        true, found = (_nearest(queries[rows], vectors, skipped) for vectors in (embedded, mapped))
        shares[rows] = [len(np.intersect1d(*pair)) / K for pair in zip(true, found, strict=True)]
    low, high = _interval(shares, seed)
    return Recall(float(shares.mean()), low, high, len(queries), len(embedded))


def _nearest(queries: Array, vectors: Array, own: NDArray[np.int64] | None) -> NDArray[np.int64]:
    scores = queries @ vectors.T
    if own is not None:
        scores[np.arange(len(queries)), own] = -np.inf
    return np.argpartition(-scores, K - 1, axis=1)[:, :K]


def _interval(values: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Percentiles of the mean of as many values, drawn with replacement."""
    rng = np.random.default_rng(seed)
    means = [rng.choice(values, len(values)).mean() for _ in range(_DRAWS)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
