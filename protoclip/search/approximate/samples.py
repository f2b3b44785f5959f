"""Queries to tune with, and the true answers: exact neighbours, found while the vectors are read for coding.

`Q` queries, `n` vectors, `D` embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protoclip.search.vectors import Array, Keys

from .library import load_faiss

# Hits for which searches are tuned.
NUMBERS = (10, 100)
# Of the entries, that conditions keep for which searches are tuned.
SHARES = (0.3, 0.1, 0.03, 0.01, 0.003)
FEWEST_KEPT = 1000
_TRUE = max(NUMBERS)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_TUNED = 400


@dataclass
class Queries:
    """Queries of one kind, and their nearest entries as far as the vectors have been read.

    Attributes:
        vectors: `[Q, D]`; each is one that tuning sees, or one that the result is measured on.
        own: `[Q]`, key of each query's own entry, which is no answer; -1: none.
        keys: `[Q, k]` of the nearest, best first; -1 where there are fewer.
        scores: `[Q, k]`.
    """

    vectors: Array
    own: Keys
    keys: Keys
    scores: Array

    @classmethod
    def of(cls, vectors: Array, own: Keys | None = None, number: int = _TRUE) -> Queries:
        """Before anything was read, with `number` nearest to be found."""
        keys = np.full((len(vectors), number), -1, dtype=np.int64)
        scores = np.full(keys.shape, -np.inf, dtype=np.float32)
        return cls(vectors, np.full(len(vectors), -1) if own is None else own, keys, scores)

    def look(self, keys: Keys, vectors: Array) -> None:
        """Takes `vectors` `[n, D]` with their keys `[n]` into the nearest."""
        if not len(self.vectors) or not len(keys):
            return
        faiss = load_faiss()
        most = self.keys.shape[1]
        number = min(len(keys), most + 1)
        scores, places = faiss.knn(self.vectors, vectors, number, metric=faiss.METRIC_INNER_PRODUCT)
        found = keys[places]
        scores[found == self.own[:, np.newaxis]] = -np.inf
        found[found == self.own[:, np.newaxis]] = -1
        all_scores, all_keys = np.hstack([self.scores, scores]), np.hstack([self.keys, found])
        order = np.argsort(-all_scores, axis=1, kind="stable")[:, :most]
        self.scores = np.take_along_axis(all_scores, order, axis=1)
        self.keys = np.take_along_axis(all_keys, order, axis=1)

    def part(self, rows: slice) -> Queries:
        """Some of them."""
        return Queries(self.vectors[rows], self.own[rows], self.keys[rows], self.scores[rows])

    def halves(self) -> tuple[Queries, Queries]:
        """Those to choose by, at most 400, and those to measure on."""
        count = min(_TUNED, len(self.vectors) // 2)
        return self.part(slice(count)), self.part(slice(count, None))


def is_kept(keys: Keys, share: float) -> NDArray[np.bool_]:
    """Of `keys` `[n]` about a `share`, as if at random; the same ones each time, and those of a smaller share."""
    mixed = keys.astype(np.uint64) * _MULTIPLIER
    mixed ^= mixed >> np.uint64(29)
    kept: NDArray[np.bool_] = (mixed * _MULTIPLIER >> np.uint64(32)) < np.uint64(share * 2**32)
    return kept


def ranks(true: NDArray[np.int64], found: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where in `found` `[Q, n]`, each of `true` `[Q, k]` stands, both distinct in each row; n where it doesn't."""
    result = np.full(true.shape, found.shape[1], dtype=np.int64)
    for row, (wanted, listed) in enumerate(zip(true, found, strict=True)):
        order = np.argsort(wanted)
        places = np.minimum(np.searchsorted(wanted, listed, sorter=order), len(wanted) - 1)
        ranks_found = np.flatnonzero(wanted[order[places]] == listed)
        result[row, order[places[ranks_found]]] = ranks_found
    return result
