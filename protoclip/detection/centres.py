"""Scores of a classifier: energy and maximum softmax. `N` pictures, `C` classes, `D` embedding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .vectors import Array, Scores, logsumexp

Reading = Literal["energy", "max_softmax"]
SCALES = np.geomspace(1.0, 200.0, 24)
"""Of which the likeliest is taken."""
_MOST_FOR_SCALE = 10_000
"""Pictures by which one number is chosen."""


@dataclass(frozen=True, eq=False)
class Centres:
    """A classifier with one centre a class: the cosine times a scale is the logit.

    Energy: Liu et al. 2020, arXiv 2010.03759; maximum softmax: Hendrycks and Gimpel 2017, arXiv 1610.02136.

    Attributes:
        centres: `[C, D]`, unit norm.
        scale: 1 / temperature of the softmax.
        reading: "energy": the logarithm of the sum of `exp(logits)`, divided by the scale; "max_softmax": the
            largest probability.
    """

    centres: Array
    scale: float
    reading: Reading

    @classmethod
    def fit(cls, vectors: Array, labels: NDArray[np.int64], reading: Reading) -> Centres:
        """From `[N, D]` vectors of unit norm and their classes `[N]`, 0 to C - 1, each with a picture."""
        sums = np.zeros((int(labels.max()) + 1, vectors.shape[1]), dtype=np.float64)
        np.add.at(sums, labels, vectors)
        centres = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
        found = centres.astype(np.float32)
        rows = np.linspace(0, len(vectors) - 1, min(len(vectors), _MOST_FOR_SCALE)).astype(np.int64)
        return cls(found, _likeliest_scale(vectors[rows] @ found.T, labels[rows]), reading)

    def score(self, vectors: Array) -> Scores:
        """`[N]`, higher for what is known, from `[N, D]` of unit norm."""
        logits = (vectors @ self.centres.T).astype(np.float64) * self.scale
        total = logsumexp(logits)
        return total / self.scale if self.reading == "energy" else np.exp(logits.max(axis=1) - total)

    def nearest_class(self, vectors: Array) -> NDArray[np.int64]:
        """The class of the nearest centre, `[N]`."""
        return (vectors @ self.centres.T).argmax(axis=1).astype(np.int64)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What a file keeps of it."""
        return {"centres": self.centres, "scale": np.array([self.scale])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], reading: Reading) -> Centres:
        """From what `arrays` gave."""
        return cls(arrays["centres"].astype(np.float32), float(arrays["scale"][0]), reading)


def _likeliest_scale(cosines: Array, labels: NDArray[np.int64]) -> float:
    own = cosines[np.arange(len(labels)), labels].astype(np.float64)
    losses = [float((logsumexp(cosines * scale) - own * scale).mean()) for scale in SCALES]
    return float(SCALES[int(np.argmin(losses))])
