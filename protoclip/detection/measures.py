"""How well scores tell the known from strangers. `K` known pictures, `U` strangers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .vectors import Scores

ACCEPTED = 0.95
"""Of the known, for the false positive rate."""


def auroc(known: ArrayLike, strangers: ArrayLike) -> float:
    """The share of pairs in which the known picture has the higher score; ties count half.

    Raises:
        ValueError: none of one kind, or a score that is not finite.
    """
    first, second = known_and_strangers(known, strangers)
    order = np.sort(second)
    below = np.searchsorted(order, first, side="left")
    ties = np.searchsorted(order, first, side="right") - below
    return float((below + ties / 2).mean() / len(second))


def false_positive_rate(known: ArrayLike, strangers: ArrayLike, accepted: float = ACCEPTED) -> float:
    """The share of strangers accepted at the highest threshold that accepts `accepted` of the known.

    Raises:
        ValueError: as `auroc`.
    """
    first, second = known_and_strangers(known, strangers)
    return float((second >= accepting_cut(first, accepted)).mean())


def accepting_cut(known: Scores, accepted: float = ACCEPTED) -> float:
    """The highest score that a share of `[K]` known pictures reach, K ≥ 1."""
    needed = int(np.ceil(accepted * len(known)))
    return float(np.sort(known)[::-1][max(needed, 1) - 1])


def average_precision(wanted: ArrayLike, others: ArrayLike) -> float:
    """Area under precision against recall, higher scores first; equal scores are taken together.

    Raises:
        ValueError: as `auroc`.
    """
    first, second = known_and_strangers(wanted, others)
    scores = np.concatenate([first, second])
    hits = np.concatenate([np.ones(len(first)), np.zeros(len(second))])
    order = np.argsort(-scores, kind="stable")
    scores, found = scores[order], np.cumsum(hits[order])
    ends = np.flatnonzero(np.append(np.diff(scores) != 0, True))
    recall = found[ends] / len(first)
    precision = found[ends] / (ends + 1)
    return float((np.diff(recall, prepend=0.0) * precision).sum())


@dataclass(frozen=True)
class Measure:
    """A value and its bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Separation:
    """Attributes:
    auroc: `auroc`, 0.5 by chance.
    fpr95: the share of strangers accepted where 95 % of the known are.
    aupr_known: `average_precision` of the known.
    aupr_strangers: of the strangers, lowest scores first.
    """

    num_known: int
    num_strangers: int
    auroc: Measure
    fpr95: Measure
    aupr_known: Measure
    aupr_strangers: Measure


_MEASURES: dict[str, Callable[[Scores, Scores], float]] = {
    "auroc": auroc,
    "fpr95": false_positive_rate,
    "aupr_known": average_precision,
    "aupr_strangers": lambda known, strangers: average_precision(-strangers, -known),
}


def separation(
    known: ArrayLike, strangers: ArrayLike, *, level: float = 0.95, num_resamples: int = 1000, seed: int = 0
) -> Separation:
    """All measures with percentile intervals: known and strangers are each drawn with replacement.

    Args:
        known: `[K]` scores, higher for what is known.
        strangers: `[U]`.
        level: share of the resampled values that lies inside an interval.
        num_resamples: how often is drawn.
        seed: the same seed and scores give the same intervals.

    Raises:
        ValueError: as `auroc`.
    """
    first, second = known_and_strangers(known, strangers)
    random = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in _MEASURES}
    for _ in range(num_resamples):
        one, other = random.choice(first, len(first)), random.choice(second, len(second))
        for name, measure in _MEASURES.items():
            drawn[name].append(measure(one, other))
    tails = [(1 - level) / 2, (1 + level) / 2]
    found = {
        name: Measure(measure(first, second), *map(float, np.quantile(drawn[name], tails)))
        for name, measure in _MEASURES.items()
    }
    return Separation(len(first), len(second), **found)


def known_and_strangers(known: ArrayLike, strangers: ArrayLike) -> tuple[Scores, Scores]:
    """Both as float64; ValueError as `auroc`."""
    first: NDArray[np.float64] = np.asarray(known, dtype=np.float64)
    second: NDArray[np.float64] = np.asarray(strangers, dtype=np.float64)
    for name, scores in (("known", first), ("strangers", second)):
        if not scores.size or not np.isfinite(scores).all():
            raise ValueError(f"{name} needs at least one score, and finite ones")
    return first, second
