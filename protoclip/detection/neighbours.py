"""Distance to the k-th nearest known picture. `N` pictures, `R` known ones that are kept, `D` embedding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .vectors import BLOCK, Array, Scores

MOST_KEPT = 20_000


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The score is the cosine of the k-th nearest.

    Sun, Ming, Zhu and Li 2022, arXiv 2204.06507: for unit vectors the distance and the cosine rank alike.

    Attributes:
        kept: `[R, D]`, unit norm: all known pictures, or a sample of 20,000.
        k: 1 to R.
    """

    kept: Array
    k: int

    @classmethod
    def fit(cls, vectors: Array, *, k: int = 5, seed: int = 0) -> Neighbours:
        """From `[N, D]` vectors of unit norm, N ≥ 1; of fewer than k the last one counts."""
        if len(vectors) > MOST_KEPT:
            vectors = vectors[np.sort(np.random.default_rng(seed).permutation(len(vectors))[:MOST_KEPT])]
        return cls(vectors, min(k, len(vectors)))

    def score(self, vectors: Array) -> Scores:
        """`[N]`, -1 to 1, higher for what is known, from `[N, D]` of unit norm."""
        found = [self._score(vectors[start : start + BLOCK]) for start in range(0, max(len(vectors), 1), BLOCK)]
        return np.concatenate(found)

    def _score(self, vectors: Array) -> Scores:
        cosines = vectors @ self.kept.T
        return np.partition(cosines, -self.k, axis=1)[:, -self.k].astype(np.float64)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What a file keeps of it."""
        return {"kept": self.kept, "k": np.array([self.k])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Neighbours:
        """From what `arrays` gave."""
        return cls(arrays["kept"].astype(np.float32), int(arrays["k"][0]))
