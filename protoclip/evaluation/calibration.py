"""Whether a classifier is right as often as it says. `N` pictures, `C` classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 15


def top_probabilities(
    cosines: NDArray[np.floating], temperature: float, logit_bias: float | None
) -> NDArray[np.float64]:
    """The probability of each picture's best class: `[N]`.

    It is what the server gives: softmax over the classes of the cosines times `temperature`, or, for a model with
    a bias, sigmoid of the best class's logit.

    Args:
        cosines: `[N, C]`; a class whose column is NaN, because it has no text, takes no part.
        temperature: factor of the logits.
        logit_bias: summand of a sigmoid model's logits; None: softmax.
    """
    logits = np.where(np.isnan(cosines), -np.inf, cosines.astype(np.float64) * temperature)
    best = logits.max(axis=1)
    if logit_bias is not None:
        return np.asarray(1 / (1 + np.exp(-(best + logit_bias))), dtype=np.float64)
    return np.asarray(1 / np.exp(logits - best[:, None]).sum(axis=1), dtype=np.float64)


def expected_calibration_error(
    confidences: NDArray[np.floating], hits: NDArray[np.generic], num_bins: int = NUM_BINS
) -> float:
    """Mean distance of confidence and accuracy over equal bins of confidence, weighted by their items: in [0, 1].

    Source: Guo et al. 2017, arXiv 1706.04599, equation 3. Bins are [i/B, (i + 1)/B); confidences of exactly
    1 are one more.

    Args:
        confidences: `[N]`, in [0, 1].
        hits: `[N]`, whether the answer was right.
        num_bins: B.

    Raises:
        ValueError: no items, lengths that differ, or a confidence outside [0, 1].
    """
    given, right = np.asarray(confidences, dtype=np.float64), np.asarray(hits, dtype=np.float64)
    if not given.size or given.shape != right.shape:
        raise ValueError(f"{given.shape} confidences and {right.shape} hits: give as many of both, at least one")
    if not ((given >= 0) & (given <= 1)).all():
        raise ValueError("a confidence is not in [0, 1]")
    bins = np.searchsorted(np.linspace(0, 1, num_bins + 1), given, side="right") - 1
    gaps = np.bincount(bins, weights=right - given, minlength=num_bins + 1)
    return float(np.abs(gaps).sum() / given.size)
