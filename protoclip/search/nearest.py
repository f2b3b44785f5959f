"""Exact search. `Q` queries, `n` vectors, `D` embedding; all vectors of unit norm.

Cosines are found in float32 by matrix products, and those of all that may be among the best again in float64, by
themselves. So an answer depends on neither the number of queries nor the place of a vector; equal cosines come in
the order of their keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .vectors import Array, Keys

Scores: TypeAlias = NDArray[np.float64]
_ROWS = 16384
_QUERIES = 256
_EXACT_ROWS = 4096


@dataclass(frozen=True)
class Part:
    """Vectors `[n, D]` with their keys `[n]` in order; `live` `[n]` says which count, None: all of them."""

    keys: Keys
    vectors: Array
    live: NDArray[np.bool_] | None = None


@dataclass
class Best:
    """The best so far of one query: keys and cosines, best first."""

    keys: Keys
    scores: Scores


def nearest(parts: Iterable[Part], queries: Array, k: int) -> list[Best]:
    """The `k` vectors with the largest cosine for each of `queries` `[Q, D]`; fewer where there are fewer."""
    found = [Best(np.zeros(0, np.int64), np.zeros(0)) for _ in queries]
    for part in parts:
        for start in range(0, len(part.keys), _ROWS):
            keys, vectors, dead = _chunk(part, slice(start, start + _ROWS))
            for first in range(0, len(queries) if len(keys) else 0, _QUERIES):
                _scan(keys, vectors, dead, queries[first : first + _QUERIES], found[first : first + _QUERIES], k)
    return found


def nearest_own(keys: Keys, vectors: Array, owners: NDArray[np.int64], queries: Array, k: int) -> list[Best]:
    """As `nearest`, where each of `vectors` `[n, D]`, by their `keys` in order, counts for one of `queries` alone.

    `owners`: `[n]`, the row of that query. `n` is small, as all queries are compared with all.
    """
    scores = queries @ vectors.T
    slack = 2 * _slack(vectors)
    found = []
    for row, query in enumerate(queries):
        own = np.flatnonzero(owners == row)
        if len(own) > k:
            mine = scores[row, own]
            own = own[mine >= np.partition(mine, len(own) - k)[len(own) - k] - slack]
        best = Best(np.zeros(0, np.int64), np.zeros(0))
        merge(best, keys[own], _cosines(vectors, own, query), k)
        found.append(best)
    return found


def _slack(vectors: Array) -> float:
    """What float32 may be wrong by: sums of D products that are together at most 1."""
    return float((vectors.shape[1] + 2) * 2.0**-23)


def _chunk(part: Part, rows: slice) -> tuple[Keys, Array, NDArray[np.bool_] | None]:
    """Keys and vectors of some rows, and which of them don't count; few that count are taken out instead."""
    keys, vectors = part.keys[rows], part.vectors[rows]
    if part.live is None:
        return keys, vectors, None
    live = part.live[rows]
    count = np.count_nonzero(live)
    if count == len(live):
        return keys, vectors, None
    if 2 * count <= len(live):
        return keys[live], vectors[live], None
    return keys, vectors, ~live


def _scan(
    keys: Keys, vectors: Array, dead: NDArray[np.bool_] | None, queries: Array, found: list[Best], k: int
) -> None:
    scores = queries @ vectors.T
    if dead is not None:
        scores[:, dead] = -np.inf
    largest = scores.max(axis=1)
    slack = _slack(vectors)
    for row, best in enumerate(found):
        floor = best.scores[-1] - slack if len(best.keys) == k else -np.inf
        if largest[row] < floor:
            continue
        if len(keys) > k:
            floor = max(floor, float(np.partition(scores[row], len(keys) - k)[len(keys) - k]) - 2 * slack)
        rows = np.flatnonzero((scores[row] >= floor) & (scores[row] > -np.inf))
        merge(best, keys[rows], _cosines(vectors, rows, queries[row]), k)


def merge(best: Best, keys: Keys, scores: Scores, k: int) -> None:
    """Takes more of one query's vectors into its best `k`, by keys and cosines."""
    keys, scores = np.concatenate([best.keys, keys]), np.concatenate([best.scores, scores])
    order = np.lexsort((keys, -scores))[:k]
    best.keys, best.scores = keys[order], scores[order]


def _cosines(vectors: Array, rows: NDArray[np.int64], query: Array) -> Scores:
    exact = np.empty(len(rows))
    for start in range(0, len(rows), _EXACT_ROWS):
        part = rows[start : start + _EXACT_ROWS]
        exact[start : start + _EXACT_ROWS] = (vectors[part].astype(np.float64) * query.astype(np.float64)).sum(
            axis=1
        )
    return exact
