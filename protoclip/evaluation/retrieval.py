"""Retrieval between pictures and texts, in NumPy.

`N` pictures, `M` texts, `D` embedding. Several pictures may show the same text's concept, so `owners`
[N] names each picture's text. All vectors are of unit norm, and a score is their dot product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Indices = NDArray[np.int64]

TIE_TOLERANCE = 1e-6
"""Scores closer than this are tied: the same dot product differs by as much between positions in a matrix
product."""


def image_to_text_ranks(
    image_vectors: Vectors, text_vectors: Vectors, owners: Indices, chunk: int = 1024
) -> Indices:
    """How many wrong texts are ranked before each picture's own: `[N]`, 0 is best.

    A tie counts against the picture, so a model that gives everything the same vector is never right.

    Args:
        image_vectors: `[N, D]`, unit norm.
        text_vectors: `[M, D]`, unit norm. Texts that no picture owns are distractors.
        owners: `[N]`, the text of each picture.
        chunk: rows of the score matrix that are held at a time: memory is `chunk · M`.

    Raises:
        ValueError: shapes that do not fit, owners out of range, or a vector that is not finite.
    """
    _check(image_vectors, text_vectors, owners)
    ranks = np.empty(len(image_vectors), dtype=np.int64)
    for rows in _chunks(len(image_vectors), chunk):
        scores = image_vectors[rows] @ text_vectors.T
        own = np.take_along_axis(scores, owners[rows, None], axis=1)
        ranks[rows] = (scores >= own - TIE_TOLERANCE).sum(axis=1) - 1
    return ranks


def text_to_image_ranks(
    image_vectors: Vectors, text_vectors: Vectors, owners: Indices, chunk: int = 1024
) -> Indices:
    """How many wrong pictures are ranked before the best of each text's own: one rank for every text that owns a
    picture, in the order of `np.unique(owners)`.

    Ties, arguments and errors are those of `image_to_text_ranks`; memory is `chunk · N`.
    """
    _check(image_vectors, text_vectors, owners)
    asked = np.unique(owners)
    ranks = np.empty(len(asked), dtype=np.int64)
    for rows in _chunks(len(asked), chunk):
        scores = text_vectors[asked[rows]] @ image_vectors.T
        own = owners[None, :] == asked[rows, None]
        best = np.where(own, scores, -np.inf).max(axis=1, keepdims=True)
        ranks[rows] = ((scores >= best - TIE_TOLERANCE) & ~own).sum(axis=1)
    return ranks


def best_ranks(queries: Vectors, items: Vectors, asking: Indices, owned: Indices, chunk: int = 1024) -> Indices:
    """How many wrong items are ranked before the best of each query's own: `[Q]`, 0 is best.

    With several captions a picture this is COCO's protocol: a query is answered at k if any of its own items is
    among the first k (Karpathy and Fei-Fei 2015, arXiv 1412.2306). Ties count against the query.

    Args:
        queries: `[Q, D]`, unit norm; each owns an item or more.
        items: `[M, D]`, unit norm.
        asking, owned: `[P]`: query `asking[p]` owns item `owned[p]`, in any order, no pair twice.
        chunk: rows of the score matrix that are held at a time: memory is `chunk · M`.

    Raises:
        ValueError: shapes that do not fit, a number out of range, a query without an item, or a vector that is
            not finite.
    """
    if len(asking) and not (asking.min() >= 0 and asking.max() < len(queries)):
        raise ValueError(f"asking must lie in [0, {len(queries)})")
    if len(np.unique(asking)) < len(queries):
        raise ValueError("a query owns no item")
    _check(queries[asking], items, owned)
    order = np.argsort(asking, kind="stable")
    asking, owned = asking[order], owned[order]
    ranks = np.empty(len(queries), dtype=np.int64)
    for rows in _chunks(len(queries), chunk):
        scores = queries[rows] @ items.T
        pairs = slice(*np.searchsorted(asking, [rows.start, rows.stop]))
        own = np.zeros(scores.shape, dtype=bool)
        own[asking[pairs] - rows.start, owned[pairs]] = True
        best = np.where(own, scores, -np.inf).max(axis=1, keepdims=True)
        ranks[rows] = ((scores >= best - TIE_TOLERANCE) & ~own).sum(axis=1)
    return ranks


def recall_at(ranks: Indices, ks: Sequence[int] = (1, 5, 10)) -> dict[int, float]:
    """Share of the queries whose answer is among the first k, in [0, 1], for every k.

    Raises:
        ValueError: no ranks.
    """
    if not len(ranks):
        raise ValueError("recall of no queries is undefined")
    return {k: float((ranks < k).mean()) for k in ks}


def _chunks(total: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


def _check(image_vectors: Vectors, text_vectors: Vectors, owners: Indices) -> None:
    if image_vectors.ndim != 2 or text_vectors.ndim != 2 or image_vectors.shape[1] != text_vectors.shape[1]:
        raise ValueError(f"image vectors {image_vectors.shape} and text vectors {text_vectors.shape} do not fit")
    if owners.shape != (len(image_vectors),):
        raise ValueError(f"owners {owners.shape} must name one text for each of {len(image_vectors)} pictures")
    if len(owners) and not (owners.min() >= 0 and owners.max() < len(text_vectors)):
        raise ValueError(f"owners must lie in [0, {len(text_vectors)})")
    # A NaN compares false with everything and would look like a perfect rank.
    if not (np.isfinite(image_vectors).all() and np.isfinite(text_vectors).all()):
        raise ValueError("a vector is not finite")
