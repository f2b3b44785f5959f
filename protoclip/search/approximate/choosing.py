"""The least effort with the recall that was asked for, and what it then is on queries that weren't seen.

`Q` queries, `k` hits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from protoclip.search.vectors import Array, Keys

from .accelerator import Accelerator
from .samples import NUMBERS, Queries, ranks
from .tuned import Effort, TunedQueries

# An approximate search must be so many times as fast as an exact one.
LEAST_SPEEDUP = 2.0
# Candidates by the number of hits, in steps.
STEPS = tuple(1.25**step for step in range(28))
_MOST_CANDIDATES = 8192
# To read more than an eighth of all vectors is no search.
_LEAST_SHARE = 8
_LIST_STEPS = (1.0, 1.3, 1.7, 2.2, 3.0)
_TIMED = 15
_TIMED_EXACT = 3
_TRUE = max(NUMBERS)
# One side of a 95 % interval of a mean, in standard errors.
_ERRORS = 1.645


@dataclass(frozen=True)
class Searches:
    """How one query `[1, D]` is searched: approximately for a number of hits by an effort, or exactly."""

    approximate: Callable[[Array, int, Effort], Keys]
    exact: Callable[[Array, int], Keys]


def choose(queries: Queries, accelerator: Accelerator, searches: Searches, recall: float) -> TunedQueries:
    """How queries of this kind are searched from now on."""
    return _Choice(*queries.halves(), accelerator, searches, recall).made()


class _Choice:
    def __init__(
        self, seen: Queries, unseen: Queries, accelerator: Accelerator, searches: Searches, recall: float
    ) -> None:
        self._seen, self._unseen = seen, unseen
        self._accelerator, self._searches, self._recall = accelerator, searches, recall
        self._ranks_by_probes: dict[int, NDArray[np.int64]] = {}

    def made(self) -> TunedQueries:
        number, asked = NUMBERS[0], len(self._unseen.vectors)
        efforts = list(takewhile(lambda one: one is not None, map(self._quickest, NUMBERS)))
        kept = [effort for effort in efforts if effort is not None]
        if not kept:
            reason = f"an approximate search doesn't reach a recall of {self._recall:g}"
            return TunedQueries((), None, None, asked, None, reason)
        mean, low = mean_and_low(self._shares(self._unseen, kept[0]))
        exact_s = median_s(lambda query: self._searches.exact(query, number), self._seen.vectors[:_TIMED_EXACT])
        speedup = exact_s / self._time_s(kept[0])
        if speedup < LEAST_SPEEDUP:
            reason = f"an approximate search with a recall of {mean:.3f} is {speedup:.1f} times as fast"
            return TunedQueries((), None, None, asked, speedup, reason)
        return TunedQueries(tuple(kept), mean, low, asked, speedup, "")

    def _quickest(self, number: int) -> Effort | None:
        """Of the efforts that suffice, on unseen queries too; None where none does."""
        timed = [(self._time_s(effort), effort) for effort in self._sufficient(number)]
        for _, effort in sorted(timed, key=lambda one: one[0]):
            if mean_and_low(self._shares(self._unseen, effort))[0] >= self._recall:
                return effort
        return None

    def _sufficient(self, number: int) -> Iterator[Effort]:
        """For some numbers of lists the least candidates that suffice, with certainty enough, where any do."""
        most = min(_MOST_CANDIDATES, max(_TRUE, len(self._accelerator.keys) // _LEAST_SHARE))
        for probes in numbers_of_lists(self._accelerator, self._seen, number, self._recall):
            if probes not in self._ranks_by_probes:
                self._ranks_by_probes[probes] = ranks_of(
                    self._accelerator, self._seen, Effort(_TRUE, probes, most)
                )
            found = self._ranks_by_probes[probes][:, :number]
            for step in STEPS:
                candidates = min(most, int(np.ceil(number * step)))
                if mean_and_low(found_shares(self._seen, found, candidates))[1] >= self._recall:
                    yield Effort(number, probes, candidates)
                    break

    def _shares(self, queries: Queries, effort: Effort) -> NDArray[np.float64]:
        return found_shares(queries, ranks_of(self._accelerator, queries, effort), effort.candidates)

    def _time_s(self, effort: Effort) -> float:
        search, number = self._searches.approximate, effort.number
        return median_s(lambda query: search(query, number, effort), self._seen.vectors[:_TIMED])


def numbers_of_lists(accelerator: Accelerator, seen: Queries, number: int, recall: float) -> list[int]:
    """From the least whose lists hold enough of the neighbours on."""
    lists, true = accelerator.num_lists, seen.keys[:, :number]
    places = np.minimum(np.searchsorted(accelerator.keys, true), len(accelerator.keys) - 1)
    needed = np.take_along_axis(accelerator.list_ranks(seen.vectors), accelerator.lists[places], axis=1)
    least = next(
        probes
        for probes in range(1, lists + 1)
        if probes == lists or mean_and_low(found_shares(seen, needed, probes))[1] >= recall
    )
    return sorted({min(lists, int(np.ceil(least * step))) for step in _LIST_STEPS})


def ranks_of(
    accelerator: Accelerator, queries: Queries, effort: Effort, selector: object = None
) -> NDArray[np.int64]:
    """The rank `[Q, k]` of each true neighbour among the candidates, the query's own entry left out."""
    places = accelerator.candidates(queries.vectors, effort.candidates + 1, effort.probes, selector)
    keys = np.where(places >= 0, accelerator.keys[places], -2 - np.arange(places.shape[1]))
    own = ranks(queries.own[:, np.newaxis], keys)
    found = ranks(queries.keys[:, : effort.number], keys)
    return found - (found > own)


def found_shares(queries: Queries, found: NDArray[np.int64], candidates: int) -> NDArray[np.float64]:
    """Of each query's true neighbours, the share `[Q]` that is among the first candidates."""
    true = queries.keys[:, : found.shape[1]] >= 0
    hit = true & (found < candidates)
    shares: NDArray[np.float64] = hit.sum(axis=1) / np.maximum(1, true.sum(axis=1))
    return shares


def mean_and_low(shares: NDArray[np.float64]) -> tuple[float, float]:
    """The mean, and the lower end of its interval of 95 %, of one side."""
    mean = float(shares.mean())
    error = float(shares.std(ddof=1)) / np.sqrt(len(shares)) if len(shares) > 1 else 1.0
    return mean, float(mean - _ERRORS * error)


def median_s(search: Callable[[Array], object], queries: Array) -> float:
    """The median time of a search of one query."""
    taken = []
    for row in range(len(queries)):
        began = time.perf_counter()
        search(queries[row : row + 1])
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))
