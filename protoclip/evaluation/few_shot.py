"""Linear probes on a few pictures of each class. `N` pictures, `D` features, `C` classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .probes import Features, Labels, LinearProbe, standardisation
from .regression import decay_path

NUM_DRAWS = 3
DECAY = 0.1
"""Of all few-shot probes: so few pictures leave none to choose it on."""


def draw_shots(labels: Labels, shots: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of `shots` pictures of every class that occurs, or of all that it has: ascending."""
    order = rng.permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    classes, starts = np.unique(labels[by_class], return_index=True)
    parts = np.split(by_class, starts[1:])
    return np.sort(np.concatenate([part[:shots] for part in parts])) if len(classes) else by_class


def fit_shots(
    features: Features, labels: Labels, num_classes: int, shots: int, *, seed: int = 0, num_draws: int = NUM_DRAWS
) -> tuple[LinearProbe, ...]:
    """One probe for each of several draws of `shots` pictures a class.

    A probe is the logistic regression of `fit_linear` with a decay of 0.1, on features standardised by the drawn
    pictures' mean and deviation; its `validation_accuracy` is NaN, as nothing is chosen.

    Args:
        features: `[N, D]`.
        labels: `[N]`, in [0, C).
        num_classes: C.
        shots: pictures a class; a class with fewer gives all it has.
        seed: of the draws.

    Raises:
        ValueError: fewer than one shot, or fewer than two classes.
    """
    if shots < 1 or len(np.unique(labels)) < 2:
        raise ValueError(f"{shots} shots of {len(np.unique(labels))} classes: a probe needs 1 shot and 2 classes")
    return tuple(
        _fit(features, labels, num_classes, draw_shots(labels, shots, np.random.default_rng((seed, shots, draw))))
        for draw in range(num_draws)
    )


def _fit(features: Features, labels: Labels, num_classes: int, rows: NDArray[np.int64]) -> LinearProbe:
    mean, scale = standardisation(features[rows])
    (weights,) = decay_path((features[rows] - mean) / scale, labels[rows], num_classes, [DECAY])
    return LinearProbe(mean, scale, weights, DECAY, float("nan"))


def mean_hits(probes: Sequence[LinearProbe], features: Features, truth: Labels) -> NDArray[np.float64]:
    """The share of the draws whose probe is right, of each picture: `[N]`."""
    return np.asarray(np.mean([probe.predict(features) == truth for probe in probes], axis=0), dtype=np.float64)
