"""Mahalanobis distance to one Gaussian of all known pictures. `N` pictures, `D` embedding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .vectors import Array, Scores

_SMALLEST = 1e-12


def shrunk_covariance(vectors: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], float]:
    """Covariance `[D, D]` of `[N, D]`, drawn towards a multiple of the identity, and by how much (0 to 1).

    Oracle approximating shrinkage: Chen, Wiesel, Eldar and Hero 2010, arXiv 0907.4698, equation 23 without its
    terms in 1/D. N ≥ 1; of one vector the covariance is zero.
    """
    wide = vectors.astype(np.float64)
    wide -= wide.mean(axis=0)
    num, dim = wide.shape
    covariance = wide.T @ wide / num
    scale = float(np.trace(covariance)) / dim
    spread = float((covariance**2).mean())
    rest = (num + 1) * (spread - scale**2 / dim)
    share = 1.0 if rest <= 0 else min((spread + scale**2) / rest, 1.0)
    shrunk = (1.0 - share) * covariance
    shrunk.flat[:: dim + 1] += share * scale
    return shrunk, share


@dataclass(frozen=True, eq=False)
class Gaussian:
    """The score is minus the squared Mahalanobis distance, divided by D.

    Sehwag, Chiang and Mittal 2021 (SSD, arXiv 2103.12051) with one cluster, as PALM is scored.

    Attributes:
        mean: `[D]`.
        whitening: `[D, D]`: its product with a centred vector has the distance as its norm.
    """

    mean: Array
    whitening: Array

    @classmethod
    def fit(cls, vectors: Array) -> Gaussian:
        """From `[N, D]` vectors of unit norm; where all are the same, distances are Euclidean."""
        covariance, _ = shrunk_covariance(vectors)
        values, axes = np.linalg.eigh(covariance)
        if values[-1] <= _SMALLEST:
            values = np.ones_like(values)
        whitening = axes / np.sqrt(np.maximum(values, values[-1] * 1e-9))
        return cls(vectors.mean(axis=0, dtype=np.float64).astype(np.float32), whitening.astype(np.float32))

    def score(self, vectors: Array) -> Scores:
        """`[N]`, at most 0, higher for what is known, from `[N, D]` of unit norm."""
        white = (vectors - self.mean) @ self.whitening
        return -np.einsum("nd,nd->n", white, white, dtype=np.float64) / vectors.shape[1]

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What a file keeps of it."""
        return {"mean": self.mean, "whitening": self.whitening}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Gaussian:
        """From what `arrays` gave."""
        return cls(arrays["mean"].astype(np.float32), arrays["whitening"].astype(np.float32))
