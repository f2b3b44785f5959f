"""Every class a mixture of prototypes on the unit sphere: PALM on frozen embeddings.

Lu et al. 2024, arXiv 2402.02653. `N` pictures, `C` classes, `M` prototypes of a class, `D` embedding. Here whole
classes are assigned at a time and prototypes replaced by their weighted means, where training moves them a little
with each batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .balancing import TEMPERATURE as BALANCING_TEMPERATURE
from .balancing import balanced
from .vectors import BLOCK, Array, Scores, softmax

KEPT = 5
"""Prototypes that a picture counts for."""
ROUNDS = 20
TEMPERATURE = 0.1
"""Of the posterior over prototypes."""

Reading = Literal["nearest", "posterior"]


def balanced_assignment(similarities: NDArray[np.floating[Any]], kept: int = KEPT) -> NDArray[np.float64]:
    """Weights `[N, M]` of pictures for prototypes: each row sums to 1, the columns are about alike.

    Sinkhorn on `exp(similarities / 0.05)`, three rounds; then the `kept` largest of a row, which is divided by its
    sum (section 3.2 of the paper).

    Args:
        similarities: `[N, M]` cosines, N and M ≥ 1. NaN makes all weights NaN.
        kept: the others of a row become 0; M or more keeps all.
    """
    scaled = similarities.astype(np.float64) / BALANCING_TEMPERATURE
    plan: NDArray[np.float64] = balanced(np.exp(scaled - scaled.max()))
    if kept < plan.shape[1]:
        least = np.partition(plan, -kept, axis=1)[:, -kept]
        plan = np.where(plan >= least[:, None], plan, 0.0)
    return plan / plan.sum(axis=1, keepdims=True)


def fit_class(vectors: Array, most: int, random: np.random.Generator) -> Array:
    """The prototypes `[min(most, N), D]` of one class from its `[N, D]` vectors of unit norm, N ≥ 1."""
    prototypes = _spread(vectors, min(most, len(vectors)), random)
    for _ in range(ROUNDS):
        weights = balanced_assignment(vectors @ prototypes.T)
        sums = weights.T @ vectors
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        moved = np.where(norms > 0, sums / np.maximum(norms, 1e-12), prototypes).astype(np.float32)
        if np.abs(moved - prototypes).max() < 1e-5:
            return moved
        prototypes = moved
    return prototypes


def _spread(vectors: Array, count: int, random: np.random.Generator) -> Array:
    """Starts as k-means++ picks them (Arthur and Vassilvitskii 2007): far ones are likelier."""
    picked = [int(random.integers(len(vectors)))]
    nearest = 1.0 - vectors @ vectors[picked[0]]
    for _ in range(1, count):
        weights = np.maximum(nearest, 0.0).astype(np.float64)
        weights[picked] = 0.0
        total = weights.sum()
        left = np.setdiff1d(np.arange(len(vectors)), picked)
        new = int(random.choice(len(vectors), p=weights / total) if total > 0 else random.choice(left))
        picked.append(new)
        nearest = np.minimum(nearest, 1.0 - vectors @ vectors[new])
    return vectors[picked].copy()


@dataclass(frozen=True, eq=False)
class Mixture:
    """Prototypes of all classes; the score is their nearness.

    Attributes:
        prototypes: `[P, D]`, unit norm; P = C · M, fewer for classes with fewer pictures than M.
        owners: `[P]`, the class of each.
        reading: "nearest": the largest cosine; "posterior": all cosines, weighted by their softmax at 0.1.
    """

    prototypes: Array
    owners: NDArray[np.int64]
    reading: Reading = "nearest"

    def __post_init__(self) -> None:
        if self.prototypes.ndim != 2 or self.owners.shape != self.prototypes.shape[:1]:
            raise ValueError(f"prototypes of {self.prototypes.shape} do not fit owners of {self.owners.shape}")

    @classmethod
    def fit(
        cls,
        vectors: Array,
        labels: NDArray[np.int64],
        *,
        per_class: int = 6,
        reading: Reading = "nearest",
        seed: int = 0,
    ) -> Mixture:
        """From `[N, D]` vectors of unit norm and their classes `[N]`; each class has a picture."""
        random = np.random.default_rng(seed)
        order = np.argsort(labels, kind="stable")
        names, starts = np.unique(labels[order], return_index=True)
        parts = [fit_class(vectors[rows], per_class, random) for rows in np.split(order, starts[1:])]
        owners = np.repeat(names, [len(part) for part in parts])
        return cls(np.concatenate(parts), owners.astype(np.int64), reading)

    def score(self, vectors: Array) -> Scores:
        """`[N]`, at most 1, higher for what is known, from `[N, D]` of unit norm."""
        return np.concatenate([self._score(part) for part in _blocks(vectors)])

    def nearest_class(self, vectors: Array) -> NDArray[np.int64]:
        """The class of the nearest prototype, `[N]`."""
        return np.concatenate(
            [self.owners[(part @ self.prototypes.T).argmax(axis=1)] for part in _blocks(vectors)]
        )

    def _score(self, vectors: Array) -> Scores:
        cosines = vectors @ self.prototypes.T
        if self.reading == "nearest":
            return cosines.max(axis=1).astype(np.float64)
        return (softmax(cosines / TEMPERATURE) * cosines).sum(axis=1)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What a file keeps of it."""
        return {"prototypes": self.prototypes, "owners": self.owners}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], reading: Reading) -> Mixture:
        """From what `arrays` gave."""
        return cls(arrays["prototypes"].astype(np.float32), arrays["owners"].astype(np.int64), reading)


def _blocks(vectors: Array) -> list[Array]:
    return [vectors[start : start + BLOCK] for start in range(0, max(len(vectors), 1), BLOCK)]
