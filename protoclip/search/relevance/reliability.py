"""How far probabilities can be believed, and what a cut-off keeps and hides. `Q` queries, `n` hits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .logistic import Floats

BINS = 10
KEEP = 0.9


@dataclass(frozen=True)
class Bin:
    """Hits whose relevance is nearly the same.

    Attributes:
        count: how many.
        relevance: their mean.
        share: of them that are answers.
    """

    count: int
    relevance: float
    share: float


@dataclass(frozen=True)
class CutOff:
    """What is shown from a value on.

    Attributes:
        value: of the relevance, or of the cosine.
        kept: of the answers among the nearest hits, the share that is shown.
        empty: of the queries without an answer, the share that shows nothing.
    """

    value: float
    kept: float
    empty: float


@dataclass(frozen=True, eq=False)
class Judged:
    """The nearest hits of one query without a cut-off: a value for each `[n]`, and which are answers `[n]`."""

    values: Floats
    truth: NDArray[np.bool_]
    has_answer: bool


def bins_of(judged: Sequence[Judged]) -> tuple[Bin, ...]:
    """Hits in BINS equal ranges of relevance; ranges without a hit are left out."""
    values, truth = _hits(judged)
    places = np.minimum((values * BINS).astype(np.int64), BINS - 1)
    return tuple(
        Bin(int(chosen.sum()), float(values[chosen].mean()), float(truth[chosen].mean()))
        for chosen in (places == place for place in range(BINS))
        if chosen.any()
    )


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: the mean of |relevance - share|, each hit counted once; 0 without hits."""
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.relevance - one.share) for one in bins) / total if total else 0.0


def cut_at(judged: Sequence[Judged], value: float) -> CutOff:
    """What is shown at a value; a share of nothing is 1."""
    values, truth = _hits(judged)
    shown = [bool((one.values >= value).any()) for one in judged if not one.has_answer]
    return CutOff(
        value,
        float((values[truth] >= value).mean()) if truth.any() else 1.0,
        1.0 - float(np.mean(shown)) if shown else 1.0,
    )


def cut_that_keeps(judged: Sequence[Judged], keep: float = KEEP) -> CutOff:
    """The largest value at which at least the share `keep` of the answers is shown."""
    values, truth = _hits(judged)
    wanted = np.sort(values[truth])[::-1]
    needed = int(np.ceil(keep * len(wanted)))
    return cut_at(judged, float(wanted[needed - 1]) if needed else 0.0)


def _hits(judged: Sequence[Judged]) -> tuple[Floats, NDArray[np.bool_]]:
    return (
        np.concatenate([np.zeros(0), *(one.values for one in judged)]),
        np.concatenate([np.zeros(0, np.bool_), *(one.truth for one in judged)]),
    )
