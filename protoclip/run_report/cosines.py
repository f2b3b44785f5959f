"""Cosines of pictures with their own and with other texts. `N` pictures, `M` texts, `D` embedding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protoclip.reports.charts import Frame, Line, line_chart

from .curves import Figure

Array = NDArray[np.float64]

_NUM_BINS = 50
_OWN, _OTHER = "own text", "another text"
_WIDE, _NARROW = (Frame(width, 280, x_label="cosine") for width in (560, 380))


def mean_cosines(
    image_vectors: NDArray[np.floating], text_vectors: NDArray[np.floating], owners: NDArray[np.int64]
) -> tuple[float, float | None]:
    """Mean cosine of a picture with its own text and with other texts; the latter None where there is one text.

    Args:
        image_vectors: `[N, D]`, unit norm, at least one.
        text_vectors: `[M, D]`, unit norm.
        owners: `[N]`, the text of each picture.
    """
    images, texts = image_vectors.astype(np.float64), text_vectors.astype(np.float64)
    own = float(np.einsum("nd,nd->", images, texts[owners]))
    every = float(images.sum(axis=0) @ texts.sum(axis=0))
    num_others = len(images) * (len(texts) - 1)
    return own / len(images), (every - own) / num_others if num_others else None


def cosine_shares(
    image_vectors: NDArray[np.floating],
    text_vectors: NDArray[np.floating],
    owners: NDArray[np.int64],
    num_bins: int = _NUM_BINS,
) -> tuple[Array, Array, Array]:
    """Histogram of the cosines over equal bins between the smallest and the largest: memory is N · M.

    Args:
        image_vectors: `[N, D]`, unit norm, at least one, finite.
        text_vectors: `[M, D]`, unit norm, at least two, finite.
        owners: `[N]`, the text of each picture.
        num_bins: B.

    Returns:
        The bins' centres `[B]`, and the share of the N own and of the N · (M − 1) other cosines in each; both
        sum to 1.
    """
    cosines = image_vectors @ text_vectors.T
    is_own = np.arange(len(text_vectors)) == owners[:, None]
    own, edges = np.histogram(cosines[is_own], num_bins, (float(cosines.min()), float(cosines.max())))
    other, _ = np.histogram(cosines[~is_own], edges)
    return (edges[:-1] + edges[1:]) / 2, own / own.sum(), other / other.sum()


def cosine_figure(
    image_vectors: NDArray[np.floating], text_vectors: NDArray[np.floating], owners: NDArray[np.int64]
) -> Figure | None:
    """Both histograms as curves, in percent; None where there is one text."""
    if len(text_vectors) < 2:
        return None
    middles, own, other = cosine_shares(image_vectors, text_vectors, owners)
    lines = [
        Line(name, style, middles.tolist(), (100 * shares).tolist())
        for name, style, shares in ((_OWN, 1, own), (_OTHER, 2, other))
    ]
    note = f"percent of the pairs in each of {_NUM_BINS} equal bins; the less they overlap, the better"
    legend = tuple((line.style, line.name) for line in lines)
    return Figure("Cosines of pairs", note, line_chart(lines, _WIDE), line_chart(lines, _NARROW), legend)
