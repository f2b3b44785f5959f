"""How the scores of known pictures and of strangers lie: ROC curves and histograms. `K` known, `U` strangers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .measures import known_and_strangers
from .vectors import Scores

TAIL = 0.005
"""Of the scores at each end, which histograms do not stretch for."""


@dataclass(frozen=True, eq=False)
class Roc:
    """Attributes:
    strangers: `[P]`, the share of strangers accepted, from 0 to 1, ascending.
    known: `[P]`, the share of known pictures accepted at the same thresholds, from 0 to 1, ascending.
    """

    strangers: Scores
    known: Scores


def roc_curve(known: ArrayLike, strangers: ArrayLike, most: int = 201) -> Roc:
    """Shares accepted at every threshold, from the highest to the lowest; equal scores are accepted together.

    Args:
        known: `[K]` scores, higher for what is known.
        strangers: `[U]`.
        most: points at most, evenly spaced among the thresholds; both ends are always there.

    Raises:
        ValueError: as `auroc`.
    """
    first, second = known_and_strangers(known, strangers)
    thresholds = np.unique(np.concatenate([first, second]))[::-1]
    shares = [
        np.concatenate([[0.0], 1.0 - np.searchsorted(np.sort(scores), thresholds, side="left") / len(scores)])
        for scores in (second, first)
    ]
    kept = np.unique(np.linspace(0, len(thresholds), min(most, len(thresholds) + 1)).round().astype(np.int64))
    return Roc(shares[0][kept], shares[1][kept])


def score_edges(parts: Sequence[Scores], count: int = 40) -> NDArray[np.float64]:
    """Edges `[count + 1]` of bins for histograms of several kinds of pictures.

    Half a percent of all scores at each end lies beyond the outermost edges or on them: a few scores far out,
    as of Mahalanobis distances, would leave the rest in one bin.

    Args:
        parts: scores, at least one in all, finite.
        count: bins, 1 or more.
    """
    low, high = np.quantile(np.concatenate(parts), [TAIL, 1.0 - TAIL])
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        low, high = low - (abs(low) / 2 or 0.5), high + (abs(high) / 2 or 0.5)
    return np.linspace(low, high, count + 1)


def shares_of_bins(scores: Scores, edges: NDArray[np.float64]) -> Scores:
    """`[B]`, summing to 1: the share of `[n]` scores in each bin between `[B + 1]` edges; n ≥ 1.

    What lies beyond the edges is counted in the outermost bins.
    """
    counts, _ = np.histogram(scores.clip(edges[0], edges[-1]), edges)
    return counts / len(scores)
