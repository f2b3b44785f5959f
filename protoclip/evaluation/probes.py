"""Probes: small classifiers on frozen picture features, in NumPy.

`N` pictures, `D` features, `C` classes. Labels are class numbers in [0, C). A probe's hyperparameters (weight
decay, number of neighbours) are chosen on whole groups held out of its training data: pictures of one thing
on both sides would favour overfitting. Test data is never used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .regression import decay_path, logits

Features = NDArray[np.float32]
Labels = NDArray[np.int64]

DECAYS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
NEIGHBOURS = (1, 3, 5, 10, 20, 50, 100)
VOTE_TEMPERATURE = 0.07


@dataclass(frozen=True)
class LinearProbe:
    """Multinomial logistic regression on standardised features."""

    mean: Features
    scale: Features
    weights: NDArray[np.float64]
    """`[D + 1, C]`, the bias last."""
    decay: float
    validation_accuracy: float

    def predict(self, features: Features) -> Labels:
        """Class of each picture: `[N]` from `[N, D]`."""
        return logits(self.weights, (features - self.mean) / self.scale).argmax(axis=1)


@dataclass(frozen=True)
class NeighbourProbe:
    """Votes of the k nearest training pictures by cosine, each weighted with `exp(cosine / 0.07)`.

    Source of the weighting: Wu et al. 2018, arXiv 1805.01978, section 3.4.
    """

    features: Features
    labels: Labels
    num_classes: int
    k: int
    validation_accuracy: float

    def predict(self, features: Features) -> Labels:
        """Class of each picture: `[N]` from `[N, D]`, unit norm."""
        return neighbour_votes(self.features, self.labels, self.num_classes, features, [self.k])[self.k]


def hold_out_groups(groups: NDArray[np.generic], share: float = 0.2, seed: int = 0) -> NDArray[np.bool_]:
    """Which rows are held out: `[N]`, all rows of about `share` of the groups, at least one group.

    Raises:
        ValueError: fewer than two groups.
    """
    names, members = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise ValueError("a probe needs at least two groups to hold one out")
    held = np.zeros(len(names), dtype=bool)
    count = min(max(1, round(share * len(names))), len(names) - 1)
    held[np.random.default_rng(seed).permutation(len(names))[:count]] = True
    return held[members]


def fit_linear(
    features: Features,
    labels: Labels,
    groups: NDArray[np.generic],
    num_classes: int,
    *,
    decays: Sequence[float] = DECAYS,
    seed: int = 0,
) -> LinearProbe:
    """Fits `mean cross-entropy + decay/2 · ‖W‖²`, with the decay that is best on held-out groups.

    Candidates are tried from strong to weak until the first that does worse; ties go to the stronger. The
    probe is then fitted again on all rows.

    Args:
        features: `[N, D]`, of any scale.
        labels: `[N]`.
        groups: `[N]`; a group is never on both sides of the held-out split.
        num_classes: C. Classes without rows are practically never predicted.
        decays: the candidates.
        seed: draws the held-out groups.

    Raises:
        ValueError: fewer than two groups or classes, or a feature that is not finite.
    """
    _check(features, labels, num_classes)
    held = hold_out_groups(groups, seed=seed)
    decays = sorted(decays, reverse=True)
    mean, scale = standardisation(features[~held])
    path = decay_path((features[~held] - mean) / scale, labels[~held], num_classes, decays)
    validation = (features[held] - mean) / scale
    accuracies: list[float] = []
    for weights in path:
        accuracies.append(float((logits(weights, validation).argmax(axis=1) == labels[held]).mean()))
        # Weak decays cost the most iterations, and beyond the best one they only overfit.
        if accuracies[-1] < max(accuracies):
            break
    best = int(np.argmax(accuracies))
    mean, scale = standardisation(features)
    (weights,) = decay_path((features - mean) / scale, labels, num_classes, decays[best : best + 1])
    return LinearProbe(mean, scale, weights, decays[best], accuracies[best])


def fit_neighbours(
    features: Features,
    labels: Labels,
    groups: NDArray[np.generic],
    num_classes: int,
    *,
    ks: Sequence[int] = NEIGHBOURS,
    seed: int = 0,
) -> NeighbourProbe:
    """Keeps all rows, with the k that is best on held-out groups; ties go to the smaller k.

    Arguments and errors are those of `fit_linear`, but features are of unit norm. Candidates beyond the
    number of rows that are not held out are skipped, except the smallest.
    """
    _check(features, labels, num_classes)
    held = hold_out_groups(groups, seed=seed)
    known = int((~held).sum())
    ks = [k for k in sorted(ks) if k <= known] or [min(ks)]
    votes = neighbour_votes(features[~held], labels[~held], num_classes, features[held], ks)
    accuracies = [float((votes[k] == labels[held]).mean()) for k in ks]
    best = int(np.argmax(accuracies))
    return NeighbourProbe(features, labels, num_classes, ks[best], accuracies[best])


def neighbour_votes(
    known: Features, labels: Labels, num_classes: int, features: Features, ks: Sequence[int], chunk: int = 512
) -> dict[int, Labels]:
    """Predicted classes `[N]` for every k; memory is `chunk · (len(known) + C)`.

    Args:
        known: `[R, D]`, unit norm, with their `labels` [R].
        num_classes: C.
        features: `[N, D]`, unit norm.
        ks: numbers of neighbours; those beyond R mean R.
        chunk: rows of `features` that are compared at a time.
    """
    predictions = {k: np.empty(len(features), dtype=np.int64) for k in ks}
    deepest = min(max(ks), len(known))
    for start in range(0, len(features), chunk):
        cosines = features[start : start + chunk] @ known.T
        nearest = np.argpartition(-cosines, deepest - 1, axis=1)[:, :deepest]
        near = np.take_along_axis(cosines, nearest, axis=1)
        order = np.argsort(-near, axis=1, kind="stable")
        classes = labels[np.take_along_axis(nearest, order, axis=1)]
        weights = np.exp(np.take_along_axis(near, order, axis=1) / VOTE_TEMPERATURE)
        for k in ks:
            votes = np.zeros((len(cosines), num_classes))
            np.add.at(votes, (np.arange(len(cosines))[:, None], classes[:, :k]), weights[:, :k])
            predictions[k][start : start + chunk] = votes.argmax(axis=1)
    return predictions


def standardisation(features: Features) -> tuple[Features, Features]:
    """Mean and deviation of each feature, the latter at least 1e-6: `[D]` each."""
    return features.mean(axis=0), np.maximum(features.std(axis=0), np.float32(1e-6))


def _check(features: Features, labels: Labels, num_classes: int) -> None:
    if labels.shape != (len(features),):
        raise ValueError(f"labels {labels.shape} must name a class for each of {len(features)} pictures")
    if len(labels) and not (labels.min() >= 0 and labels.max() < num_classes):
        raise ValueError(f"labels must lie in [0, {num_classes})")
    if len(np.unique(labels)) < 2:
        raise ValueError("a probe needs at least two classes")
    if not np.isfinite(features).all():
        raise ValueError("a feature is not finite")
