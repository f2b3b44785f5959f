"""Mixtures of prototypes that were trained: behind the head that was trained with them, in NumPy.

`N` pictures, `D` embedding, `P` projection. The training is PALM's, Lu et al. 2024, arXiv 2402.02653.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .mixture import Mixture, Reading
from .vectors import BLOCK, Array, Scores

BEHIND = "behind_"
"""Begins the names of arrays that are of no embeddings but of what the head makes of them."""


@dataclass(frozen=True, eq=False)
class Layer:
    """`x · weightᵀ + bias`: weight `[out, in]`, bias `[out]`."""

    weight: Array
    bias: Array

    def __call__(self, vectors: Array) -> Array:
        return vectors @ self.weight.T + self.bias


@dataclass(frozen=True, eq=False)
class TrainedMixture:
    """Embeddings of unit norm pass the head, and are compared with prototypes there.

    Attributes:
        layers: from D to P, one or more, with ReLU between them.
        mixture: prototypes `[K, P]` and their classes.
    """

    layers: tuple[Layer, ...]
    mixture: Mixture

    def __post_init__(self) -> None:
        widths = [(layer.weight.shape[1], len(layer.bias)) for layer in self.layers]
        fit = all(out == into for (_, out), (into, _) in pairwise(widths))
        if not widths or not fit or widths[-1][1] != self.mixture.prototypes.shape[1]:
            raise ValueError(f"layers of {widths} do not lead to prototypes of {self.mixture.prototypes.shape}")

    @property
    def dim(self) -> int:
        """D."""
        return int(self.layers[0].weight.shape[1])

    def project(self, vectors: Array) -> Array:
        """`[N, P]` of unit norm, from `[N, D]` of unit norm."""
        for layer in self.layers[:-1]:
            vectors = np.maximum(layer(vectors), 0.0)
        vectors = self.layers[-1](vectors)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    def score(self, vectors: Array) -> Scores:
        """`[N]`, at most 1, higher for what is known, from `[N, D]` of unit norm."""
        starts = range(0, max(len(vectors), 1), BLOCK)
        return np.concatenate([self.mixture.score(self.project(vectors[at : at + BLOCK])) for at in starts])

    def nearest_class(self, vectors: Array) -> NDArray[np.int64]:
        """The class of the nearest prototype, `[N]`."""
        return self.mixture.nearest_class(self.project(vectors))

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What a file keeps of it."""
        found: dict[str, NDArray[np.generic]] = {}
        for place, layer in enumerate(self.layers):
            found |= {f"{BEHIND if place else ''}layer_{place}": layer.weight, f"{BEHIND}bias_{place}": layer.bias}
        return found | {f"{BEHIND}{name}": array for name, array in self.mixture.arrays().items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], reading: Reading) -> TrainedMixture:
        """From what `arrays` gave."""
        layers = [Layer(arrays["layer_0"].astype(np.float32), arrays[f"{BEHIND}bias_0"].astype(np.float32))]
        while f"{BEHIND}layer_{len(layers)}" in arrays:
            names = f"{BEHIND}layer_{len(layers)}", f"{BEHIND}bias_{len(layers)}"
            layers.append(Layer(*(arrays[name].astype(np.float32) for name in names)))
        behind = {name.removeprefix(BEHIND): array for name, array in arrays.items()}
        return cls(tuple(layers), Mixture.from_arrays(behind, reading))
