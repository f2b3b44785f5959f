"""A projection of the joint space that keeps its modality gap. `N` pictures, `M` texts, `D` embedding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_NO_VARIANCE = 1e-12
"""Share of the total variance below which a direction is only rounding error and is not drawn."""


@dataclass(frozen=True)
class Projection:
    """Coordinates on three orthogonal axes, in the embedding's own unit of length.

    Axis 0 runs from the mean picture to the mean text. Axes 1 and 2 are the first two principal components
    after axis 0 is projected out: along them the means coincide, and no gap can be seen.
    The origin lies half-way between the two means.

    Attributes:
        images: `[N, 3]`.
        texts: `[M, 3]`.
        gap: distance of the means; axis 0 has the mean picture at −gap / 2 and the mean text at +gap / 2.
        shares: of the variance of all N + M points about their common mean, for each axis, in [0, 1].
    """

    images: Array
    texts: Array
    gap: float
    shares: tuple[float, float, float]


def project(image_vectors: NDArray[np.floating], text_vectors: NDArray[np.floating]) -> Projection:
    """Projects both modalities with the same three axes; the same vectors always give the same signs.

    An axis without variance is all zeros: axis 0 where the means coincide, axes 1 and 2 where too few points
    differ.

    Args:
        image_vectors: `[N, D]`, unit norm or not.
        text_vectors: `[M, D]`.

    Raises:
        ValueError: shapes that do not fit, D below 3, a side without vectors, fewer than 3 vectors in all, or
            a vector that is not finite.
    """
    _check(image_vectors, text_vectors)
    images, texts = image_vectors.astype(np.float64), text_vectors.astype(np.float64)
    means = images.mean(axis=0), texts.mean(axis=0)
    gap = float(np.linalg.norm(means[1] - means[0]))
    everything = np.concatenate([images, texts])
    total = float(everything.var(axis=0).sum())
    along = (means[1] - means[0]) / gap if gap**2 > _NO_VARIANCE * total else np.zeros_like(means[0])
    # Without the axis through both means, pictures and texts have the same mean: the common one.
    centred = everything - everything.mean(axis=0)
    axes = np.column_stack([along, *_principal(centred - np.outer(centred @ along, along), total)])
    origin = (means[0] + means[1]) / 2
    variances = ((everything - origin) @ axes).var(axis=0)
    shares = tuple(float(value / total) if total else 0.0 for value in variances)
    return Projection((images - origin) @ axes, (texts - origin) @ axes, gap, (shares[0], shares[1], shares[2]))


def principal_plane(vectors: NDArray[np.floating]) -> tuple[Array, tuple[float, float]]:
    """Coordinates `[N, 2]` of points of one modality along their first two principal components, about their mean.

    The same vectors always give the same signs; an axis without variance is all zeros.

    Args:
        vectors: `[N, D]`.

    Returns:
        The coordinates, and the share of the variance along each axis, in [0, 1].

    Raises:
        ValueError: not `[N, D]`, no vector, D below 2, or a vector that is not finite.
    """
    if vectors.ndim != 2 or not len(vectors) or vectors.shape[1] < 2:
        raise ValueError(f"vectors {vectors.shape} must be [N, D], N ≥ 1 and D ≥ 2")
    if not np.isfinite(vectors).all():
        raise ValueError("a vector is not finite")
    points = vectors.astype(np.float64)
    centred = points - points.mean(axis=0)
    total = float(centred.var(axis=0).sum())
    places = centred @ np.column_stack(_principal(centred, total))
    shares = places.var(axis=0) / total if total else np.zeros(2)
    return places, (float(shares[0]), float(shares[1]))


def _principal(rest: Array, total: float) -> list[Array]:
    """The two directions `[D]` of the most variance of centred rows; zeros where there is none."""
    variances, directions = np.linalg.eigh(rest.T @ rest / len(rest))
    found = []
    for place in (-1, -2):
        direction = directions[:, place]
        upright = direction * np.sign(direction[np.argmax(np.abs(direction))])
        found.append(upright if variances[place] > _NO_VARIANCE * total else np.zeros_like(direction))
    return found


def _check(image_vectors: NDArray[np.floating], text_vectors: NDArray[np.floating]) -> None:
    shapes = image_vectors.shape, text_vectors.shape
    if image_vectors.ndim != 2 or text_vectors.ndim != 2 or shapes[0][1] != shapes[1][1] or shapes[0][1] < 3:
        raise ValueError(
            f"image vectors {shapes[0]} and text vectors {shapes[1]} must be [N, D] and [M, D], D ≥ 3"
        )
    if not (shapes[0][0] and shapes[1][0]) or shapes[0][0] + shapes[1][0] < 3:
        raise ValueError(f"{shapes[0][0]} pictures and {shapes[1][0]} texts are too few: give both, 3 in all")
    if not (np.isfinite(image_vectors).all() and np.isfinite(text_vectors).all()):
        raise ValueError("a vector is not finite")
