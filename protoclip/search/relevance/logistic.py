"""Logistic regression by Newton's method. `n` examples, `F` features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_STEPS = 50
_SMALL = 1e-9
_PENALTY = 1.0


@dataclass(frozen=True, eq=False)
class Logistic:
    """Attributes:
    centre: `[F]`, subtracted from features.
    scale: `[F]`, by which they are divided then.
    weights: `[F]` of what that gives.
    bias: added.
    """

    centre: Floats
    scale: Floats
    weights: Floats
    bias: float

    def __call__(self, features: Floats) -> Floats:
        """Probabilities `[n]` of rows `[n, F]`."""
        return sigmoid((features - self.centre) / self.scale @ self.weights + self.bias)


def sigmoid(values: Floats) -> Floats:
    """1 / (1 + exp(-x)), also of values whose exponential is infinite."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * values)))


def fit_logistic(features: Floats, truth: NDArray[np.bool_]) -> Logistic:
    """The most probable weights, with a penalty of half their squares; the bias has none.

    Args:
        features: `[n, F]`; scaled to variance 1 here, and a constant one gets the weight 0.
        truth: `[n]`.

    Raises:
        ValueError: all of `truth` are the same, or a feature is not finite.
    """
    if not np.isfinite(features).all():
        raise ValueError("features must be finite")
    if truth.all() or not truth.any():
        raise ValueError("logistic regression needs examples of both kinds")
    centre, spread = features.mean(axis=0), features.std(axis=0)
    scale = np.where(spread > _SMALL, spread, 1.0)
    rows = np.column_stack([(features - centre) / scale, np.ones(len(features))])
    penalty = np.diag([*np.full(features.shape[1], _PENALTY), _SMALL])
    found = np.zeros(rows.shape[1])
    for _ in range(_STEPS):
        probable = sigmoid(rows @ found)
        slope = rows.T @ (probable - truth) + penalty @ found
        curvature = (rows * (probable * (1 - probable))[:, np.newaxis]).T @ rows + penalty
        step = np.linalg.solve(curvature, slope)
        # The likelihood is concave, but a whole step may overshoot where examples are nearly separable.
        found = found - step / max(1.0, float(np.abs(step).max()) / 5.0)
        if np.abs(step).max() < _SMALL:
            break
    return Logistic(centre, scale, found[:-1], float(found[-1]))
