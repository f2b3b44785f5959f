"""Zero-shot: strangers found by texts alone. `N` pictures, `C` known names, `G` negative ones, `D` embedding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .vectors import BLOCK, Array, Scores, logsumexp, softmax

NEGATIVE_SCALE = 100.0
"""1 / temperature for negative labels, of section 4.1 of their paper; concept matching alone takes 1."""
NEAR_SHARE = 0.05
"""Of the known names: so many of the nearest say how near a negative one is."""


def mine_negatives(words: Array, names: Array, count: int) -> NDArray[np.int64]:
    """Positions of the `count` texts of a vocabulary that are farthest from all known names, farthest first.

    NegMining: Jiang et al. 2024, arXiv 2403.20078, section 3.1: the distance to the 95th percentile of the names
    by cosine.

    Args:
        words: `[V, D]`, unit norm, V ≥ 1.
        names: `[C, D]`, unit norm, C ≥ 1.
        count: V or more gives all.
    """
    starts = range(0, len(words), BLOCK)
    blocks = [np.quantile(words[at : at + BLOCK] @ names.T, 1.0 - NEAR_SHARE, axis=1) for at in starts]
    return np.argsort(np.concatenate(blocks), kind="stable")[:count]


@dataclass(frozen=True, eq=False)
class Concepts:
    """Maximum concept matching, and with negative names the share that the known ones have of all.

    Without: the largest softmax over the cosines to the names, temperature 1 (Ming et al. 2022, arXiv 2211.13445).
    With: `Σ exp(100 · known) / (Σ exp(100 · known) + Σ exp(100 · negative))` (NegLabel, arXiv 2403.20078).

    Attributes:
        names: `[C, D]` text vectors of the known, unit norm.
        negatives: `[G, D]`; G may be 0.
    """

    names: Array
    negatives: Array

    def score(self, vectors: Array) -> Scores:
        """`[N]`, 0 to 1, higher for what is known, from picture vectors `[N, D]` of unit norm."""
        starts = range(0, max(len(vectors), 1), BLOCK)
        return np.concatenate([self._score(vectors[at : at + BLOCK]) for at in starts])

    def _score(self, vectors: Array) -> Scores:
        known = vectors @ self.names.T
        if not len(self.negatives):
            return softmax(known).max(axis=1)
        positive = logsumexp(known * NEGATIVE_SCALE)
        negative = logsumexp((vectors @ self.negatives.T) * NEGATIVE_SCALE)
        return 1.0 / (1.0 + np.exp(np.minimum(negative - positive, 700.0)))

    def nearest_class(self, vectors: Array) -> NDArray[np.int64]:
        """The class of the nearest name, `[N]`."""
        return (vectors @ self.names.T).argmax(axis=1).astype(np.int64)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What a file keeps of it."""
        return {"names": self.names, "negatives": self.negatives}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Concepts:
        """From what `arrays` gave."""
        return cls(arrays["names"].astype(np.float32), arrays["negatives"].astype(np.float32))
