"""What a hit is compared with beside its query: other queries of the kind.

`R` references, `n` hits, `D` embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protoclip.search.vectors import Array

from .logistic import Floats

FEATURES = ("cosine", "mean of the nearest references", "nearest reference", "likeness")
SAME = 0.9
"""A reference whose cosine with the query is this large is as the query itself, and tells nothing of others."""
_NEAREST = 10
_LEAST_NORM = 1e-12


@dataclass(frozen=True, eq=False)
class References:
    """Queries of one kind, texts or pictures, around their mean, as entries are: that takes out the modality gap.

    Attributes:
        queries: `[R, D]`, less `query_mean`, of unit norm.
        query_mean: `[D]`.
        entry_mean: `[D]` of entries.
    """

    queries: Array
    query_mean: Array
    entry_mean: Array

    @classmethod
    def of(cls, queries: Array, entries: Array) -> References:
        """Of queries `[R, D]` and a sample `[n, D]` of the entries, both of unit norm."""
        query_mean, entry_mean = queries.mean(axis=0), entries.mean(axis=0)
        return cls(_unit(queries - query_mean), query_mean, entry_mean)

    def features(self, query: Array, entries: Array) -> Floats:
        """What tells of each hit `[n, FEATURES]` whether it is what `query` `[D]` asks for; `entries` `[n, D]`.

        1. The cosine of both, each around its own mean.
        2. The mean of the hit's cosines with the 10 references that are nearest to it. An entry that is near to
           many queries is found by many that don't mean it (hubness: Radovanović, Nanopoulos and Ivanović 2010).
        3. Its cosine with the nearest of them, which may be what asks for this entry.
        4. How alike query and hit are in what they are near to: the correlation of their cosines with references.

        Where no reference is left, 2 to 4 are 0.
        """
        asked = _unit(query - self.query_mean)
        found = _unit(entries - self.entry_mean)
        to_query = self.queries @ asked
        others = to_query < SAME
        features = np.zeros((len(entries), len(FEATURES)))
        features[:, 0] = found @ asked
        if others.any():
            to_hits = (self.queries @ found.T)[others]
            nearest = np.partition(to_hits, -min(_NEAREST, len(to_hits)), axis=0)[-_NEAREST:]
            features[:, 1], features[:, 2] = nearest.mean(axis=0), nearest.max(axis=0)
            features[:, 3] = _correlations(to_query[others], to_hits)
        return features


def _correlations(one: Array, many: Array) -> NDArray[np.float32]:
    """Of `one` `[R]` with each column of `many` `[R, n]`."""
    one, many = one - one.mean(), many - many.mean(axis=0)
    norms = np.linalg.norm(one) * np.linalg.norm(many, axis=0)
    return np.asarray(one @ many / np.maximum(norms, _LEAST_NORM), dtype=np.float32)


def _unit(rows: Array) -> Array:
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, _LEAST_NORM), dtype=np.float32)
