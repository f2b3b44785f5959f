"""Measures the difference between two sets of embeddings, in NumPy and float64.

Shapes: `N` inputs, `D` embedding. `reference` and `candidate` are `[N, D]`, row by row the same inputs.
Every function raises ValueError on empty or differently shaped arrays, and gives NaN for NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Comparison:
    """What `compare` found; a number is None where it is not defined (see there)."""

    num_inputs: int
    finite: bool
    max_abs_difference: float | None
    min_cosine: float | None
    mean_cosine: float | None
    min_centred_cosine: float | None
    mean_centred_cosine: float | None
    error_to_neighbour: float | None


def compare(reference: Array, candidate: Array, crowd: Array | None = None) -> Comparison:
    """All measures at once.

    `crowd` `[M, D]` are the reference embeddings whose mean is subtracted, and whose distances errors are
    relative to; by default `reference` itself. It is given where `reference` holds other inputs than the samples.

    Where either array holds NaN or infinity, `finite` is false and all numbers are None. Cosines are
    None where a row is zero, centred ones where a row lies on the reference's mean, and
    `error_to_neighbour` where most of the reference's rows have an equal one.
    """
    reference, candidate = _pair(reference, candidate)
    if not (np.isfinite(reference).all() and np.isfinite(candidate).all()):
        return Comparison(len(reference), False, None, None, None, None, None, None)
    crowd = reference if crowd is None else np.asarray(crowd, dtype=np.float64)
    cosines, centred = row_cosines(reference, candidate), centred_cosines(reference, candidate, crowd)
    return Comparison(
        num_inputs=len(reference),
        finite=True,
        max_abs_difference=max_abs_difference(reference, candidate),
        min_cosine=_defined(cosines.min()),
        mean_cosine=_defined(cosines.mean()),
        min_centred_cosine=_defined(centred.min()),
        mean_centred_cosine=_defined(centred.mean()),
        error_to_neighbour=_defined(error_to_neighbour(reference, candidate, crowd)),
    )


def max_abs_difference(reference: Array, candidate: Array) -> float:
    """Largest absolute difference of any component."""
    reference, candidate = _pair(reference, candidate)
    return float(np.abs(reference - candidate).max())


def row_cosines(reference: Array, candidate: Array) -> NDArray[np.float64]:
    """Cosine of each row with its counterpart, `[N]`; NaN where a row is zero."""
    reference, candidate = _pair(reference, candidate)
    norms = np.linalg.norm(reference, axis=1) * np.linalg.norm(candidate, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines: NDArray[np.float64] = np.einsum("nd,nd->n", reference, candidate) / norms
    return cosines


def centred_cosines(reference: Array, candidate: Array, crowd: Array | None = None) -> NDArray[np.float64]:
    """Cosines after the mean of `crowd`, or else of the *reference*, is subtracted from both, `[N]`.

    Embeddings lie in a narrow cone, where any two have a plain cosine near 1; relative to their mean
    an error is visible. NaN where a row equals the mean.
    """
    reference, candidate = _pair(reference, candidate)
    mean = (reference if crowd is None else np.asarray(crowd, dtype=np.float64)).mean(axis=0)
    return row_cosines(reference - mean, candidate - mean)


def neighbour_distances(vectors: Array) -> NDArray[np.float64]:
    """Euclidean distance of each row of `[N, D]` to its nearest other row, `[N]`; infinity for N = 1."""
    vectors = np.asarray(vectors, dtype=np.float64)
    squares = np.einsum("nd,nd->n", vectors, vectors)
    distances = squares[:, None] + squares[None, :] - 2 * vectors @ vectors.T
    np.fill_diagonal(distances, np.inf)
    nearest: NDArray[np.float64] = np.sqrt(np.maximum(distances.min(axis=1), 0))
    return nearest


def error_to_neighbour(reference: Array, candidate: Array, crowd: Array | None = None) -> float:
    """Largest error of any row, in units of the median distance to the nearest neighbour.

    The distances are those within `crowd`, or else within the reference. Well below 1 the order of search
    results is not affected. NaN where that median is 0 and for a crowd of one.
    """
    reference, candidate = _pair(reference, candidate)
    scale = float(np.median(neighbour_distances(reference if crowd is None else crowd)))
    if scale == 0 or not np.isfinite(scale):
        return float("nan")
    return float(np.linalg.norm(reference - candidate, axis=1).max() / scale)


def top_1(queries: Array, keys: Array) -> NDArray[np.int64]:
    """For each query row the key row with the largest inner product, `[N]`; the first among equals."""
    best: NDArray[np.int64] = (
        np.asarray(queries, dtype=np.float64) @ np.asarray(keys, dtype=np.float64).T
    ).argmax(axis=1)
    return best


def recall_at_1(queries: Array, keys: Array) -> float:
    """Share of the queries whose best key is the one in the same row."""
    queries, keys = _pair(queries, keys)
    return float((top_1(queries, keys) == np.arange(len(queries))).mean())


def _pair(reference: Array, candidate: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if reference.shape != candidate.shape or reference.ndim != 2 or reference.size == 0:
        raise ValueError(f"two equal shapes [N, D] are needed, got {reference.shape} and {candidate.shape}")
    return np.asarray(reference, dtype=np.float64), np.asarray(candidate, dtype=np.float64)


def _defined(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
