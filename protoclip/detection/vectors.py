"""Embeddings as detectors take them. `N` pictures, `D` embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from protoclip.contract.errors import DataError

Array = NDArray[np.float32]
Scores = NDArray[np.float64]

BLOCK = 4096
"""Pictures at a time, where a matrix of pictures by prototypes or neighbours is made."""
_SMALLEST_NORM = 1e-12


def checked(vectors: ArrayLike, dim: int | None = None) -> Array:
    """`[N, D]` float32 of unit norm, from vectors of any norm; a lone `[D]` becomes `[1, D]`.

    Args:
        dim: D, where it is known.

    Raises:
        DataError: another shape, or a row that holds NaN or infinity or is all zeros; the first one is named.
    """
    found = np.atleast_2d(np.asarray(vectors, dtype=np.float32))
    if found.ndim != 2 or not found.shape[1]:
        raise DataError(f"embeddings of shape {np.shape(vectors)}: give [N, D]")
    if dim is not None and found.shape[1] != dim:
        raise DataError(
            f"embeddings of {found.shape[1]} dimensions for a detector of {dim}: use the model that it is for"
        )
    norms = np.linalg.norm(found.astype(np.float64), axis=1, keepdims=True)
    good = np.isfinite(norms[:, 0]) & (norms[:, 0] > _SMALLEST_NORM)
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        reason = "all zeros" if norms[row, 0] <= _SMALLEST_NORM else "not finite"
        raise DataError(f"the embedding at position {row} is {reason}: leave it out, or embed that picture again")
    return (found / norms).astype(np.float32)


@dataclass(frozen=True)
class Centring:
    """Takes the mean of the known pictures off, and brings what is left to unit norm.

    Embeddings of one modality lie in a narrow cone (Liang et al. 2022, arXiv 2203.02053), in which all cosines are
    alike. How far a picture is from that cone tells strangers too, and is lost by it.

    Attributes:
        mean: `[D]`; zeros leave vectors as they are.
    """

    mean: Array

    @classmethod
    def fit(cls, vectors: Array, enabled: bool = True) -> Centring:
        """Of `[N, D]` vectors of unit norm, N ≥ 1."""
        mean = vectors.mean(axis=0, dtype=np.float64) if enabled else np.zeros(vectors.shape[1])
        return cls(mean.astype(np.float32))

    def __call__(self, vectors: Array) -> Array:
        """`[N, D]`, unit norm; a vector that is the mean itself stays zero."""
        rest = vectors - self.mean
        norms = np.linalg.norm(rest, axis=1, keepdims=True)
        return rest / np.maximum(norms, _SMALLEST_NORM)


def logsumexp(values: NDArray[np.floating[Any]]) -> Scores:
    """Of each row of `[N, K]`, K ≥ 1: `[N]` float64."""
    wide = values.astype(np.float64)
    top = wide.max(axis=1)
    return top + np.log(np.exp(wide - top[:, None]).sum(axis=1))


def softmax(values: NDArray[np.floating[Any]]) -> Scores:
    """Of each row of `[N, K]`, K ≥ 1: float64, rows that sum to 1."""
    wide = values.astype(np.float64)
    return np.exp(wide - logsumexp(wide)[:, None])
