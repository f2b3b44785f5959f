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
_TRUE = max(NUMBERS)
_TUNED = 400


@dataclass
class Queries:
    """Queries of one kind, and their nearest entries as far as the vectors have been read.

    Attributes:
        vectors: `[Q, D]`; each is one that tuning sees, or one that the result is measured on.
        own: `[Q]`, key of each query's own entry, which is no answer; -1: none.
        keys: `[Q, 100]` of the nearest, best first; -1 where there are fewer.
        scores: `[Q, 100]`.
    """

    vectors: Array
    own: Keys
    keys: Keys
    scores: Array

    @classmethod
    def of(cls, vectors: Array, own: Keys | None = None) -> Queries:
        """Before anything was read."""
        keys = np.full((len(vectors), _TRUE), -1, dtype=np.int64)
        scores = np.full(keys.shape, -np.inf, dtype=np.float32)
        return cls(vectors, np.full(len(vectors), -1) if own is None else own, keys, scores)

    def look(self, keys: Keys, vectors: Array) -> None:
        """Takes `vectors` `[n, D]` with their keys `[n]` into the nearest."""
        if not len(self.vectors):
            return
        faiss = load_faiss()
        number = min(len(keys), _TRUE + 1)
        scores, places = faiss.knn(self.vectors, vectors, number, metric=faiss.METRIC_INNER_PRODUCT)
        found = keys[places]
        scores[found == self.own[:, np.newaxis]] = -np.inf
        found[found == self.own[:, np.newaxis]] = -1
        all_scores, all_keys = np.hstack([self.scores, scores]), np.hstack([self.keys, found])
        order = np.argsort(-all_scores, axis=1, kind="stable")[:, :_TRUE]
        self.scores = np.take_along_axis(all_scores, order, axis=1)
        self.keys = np.take_along_axis(all_keys, order, axis=1)

    def part(self, rows: slice) -> Queries:
        """Some of them."""
        return Queries(self.vectors[rows], self.own[rows], self.keys[rows], self.scores[rows])

    def halves(self) -> tuple[Queries, Queries]:
        """Those to choose by, at most 400, and those to measure on."""
        count = min(_TUNED, len(self.vectors) // 2)
        return self.part(slice(count)), self.part(slice(count, None))


def ranks(true: NDArray[np.int64], found: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where in `found` `[Q, n]`, each of `true` `[Q, k]` stands, both distinct in each row; n where it doesn't."""
    result = np.full(true.shape, found.shape[1], dtype=np.int64)
    for row, (wanted, listed) in enumerate(zip(true, found, strict=True)):
        order = np.argsort(wanted)
        places = np.minimum(np.searchsorted(wanted, listed, sorter=order), len(wanted) - 1)
        ranks_found = np.flatnonzero(wanted[order[places]] == listed)
        result[row, order[places[ranks_found]]] = ranks_found
    return result
