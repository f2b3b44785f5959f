"""Geometry of pictures and texts in the joint space, in NumPy. `N` pictures, `M` texts, `D` embedding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


def modality_gap(image_vectors: Vectors, text_vectors: Vectors) -> float:
    """Distance between the mean picture and the mean text, in [0, 2] for unit vectors.

    0 is no gap. Source: Liang et al. 2022, arXiv 2203.02053, section 4.1. NaN where a side is empty or not
    finite.

    Args:
        image_vectors: `[N, D]`, unit norm.
        text_vectors: `[M, D]`, unit norm.
    """
    if not (len(image_vectors) and len(text_vectors)):
        return float("nan")
    difference = image_vectors.mean(axis=0, dtype=np.float64) - text_vectors.mean(axis=0, dtype=np.float64)
    return float(np.linalg.norm(difference))


def alignment(image_vectors: Vectors, own_text_vectors: Vectors) -> float:
    """Mean squared distance between each picture and its own text, in [0, 4] for unit vectors; lower is closer.

    Source: Wang and Isola 2020, arXiv 2005.10242, equation 3 with exponent 2. NaN where there is no pair.

    Args:
        image_vectors: `[N, D]`, unit norm.
        own_text_vectors: `[N, D]`, unit norm, row by row the text of the picture.

    Raises:
        ValueError: the two have different shapes.
    """
    if image_vectors.shape != own_text_vectors.shape:
        raise ValueError(f"{image_vectors.shape} pictures against {own_text_vectors.shape} texts: give pairs")
    if not len(image_vectors):
        return float("nan")
    return float(np.square(image_vectors - own_text_vectors).sum(axis=1, dtype=np.float64).mean())


def uniformity(vectors: Vectors, chunk: int = 1024) -> float:
    """`log mean exp(−2‖x − y‖²)` over all pairs of different rows; lower is more even, 0 is collapsed.

    Source: Wang and Isola 2020, arXiv 2005.10242, equation 4 with t = 2. NaN where there are fewer than two
    rows. Work grows with N², memory with `chunk · N`.

    Args:
        vectors: `[N, D]`, unit norm.
        chunk: rows that are compared with all others at a time.
    """
    num = len(vectors)
    if num < 2:
        return float("nan")
    squares = np.square(vectors).sum(axis=1)
    total = 0.0
    for start in range(0, num, chunk):
        rows = slice(start, start + chunk)
        distances = squares[rows, None] + squares[None, :] - 2 * (vectors[rows] @ vectors.T)
        total += float(np.exp(-2 * np.maximum(distances, 0)).sum(dtype=np.float64))
    return float(np.log((total - num) / (num * (num - 1))))
