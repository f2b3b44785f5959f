"""Linear maps from the vectors of one model to those of another. `n` entries, `D` old and `E` new embedding.

The idea of moving an index by such a map instead of embedding all of it again is that of "Drift-Adapter"
(arXiv 2509.23471). A map is fitted on entries that have both vectors, y ≈ normalise((x - m) W + c).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import ConfigError

from .vectors import Array

Kind: TypeAlias = Literal["ridge", "procrustes", "low_rank"]
Matrix: TypeAlias = NDArray[np.float64]
_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
_FOLDS = 5
_FEWEST = 100
_ROWS = 16384


@dataclass(frozen=True)
class MapChoice:
    """A way to fit a map.

    Attributes:
        kind: "ridge": least squares with a penalty; "procrustes": the nearest map that keeps angles; "low_rank":
            the ridge map, of a given rank.
        strength: the penalty, as a share of the mean variance of the old components; 0 for "procrustes".
        rank: of the map; None: full.
    """

    kind: Kind
    strength: float = 0.0
    rank: int | None = None

    def __str__(self) -> str:
        more = [f"penalty {self.strength:g}"] if self.strength else []
        more += [f"rank {self.rank}"] if self.rank is not None else []
        return f"{self.kind} ({', '.join(more)})" if more else self.kind


@dataclass(frozen=True)
class LinearMap:
    """`[n, D]` to `[n, E]`: minus `mean` `[D]`, times `weight` `[D, E]`, plus `offset` `[E]`, normalised."""

    mean: Matrix
    weight: Matrix
    offset: Matrix

    def __call__(self, vectors: Array) -> Array:
        """The mapped vectors, float32 of unit norm; what would have no direction gets that of the first axis."""
        mapped = np.empty((len(vectors), self.weight.shape[1]), dtype=np.float32)
        for start in range(0, len(vectors), _ROWS):
            rows = slice(start, start + _ROWS)
            mapped[rows] = _unit((vectors[rows].astype(np.float64) - self.mean) @ self.weight + self.offset)
        return mapped


@dataclass(frozen=True)
class Fitted:
    """The best of several maps.

    Attributes:
        choice: how it was fitted.
        map: fitted on all entries.
        held_out: `[n, E]`: each entry mapped by a map that was fitted on others alone.
        error: mean of 1 - cosine of these with the entry's own vector.
    """

    choice: MapChoice
    map: LinearMap
    held_out: Array
    error: float


def choices(dim: int, rank: int | None) -> tuple[MapChoice, ...]:
    """The ways that are tried; with `rank`, only maps of that rank.

    Raises:
        ConfigError: `rank` is below 1 or above `dim`, the smaller of the two dimensions.
    """
    if rank is None:
        return (MapChoice("procrustes"), *(MapChoice("ridge", strength) for strength in _STRENGTHS))
    if not 1 <= rank <= dim:
        raise ConfigError(f"rank={rank} (--rank) must be between 1 and {dim}, the smaller of both dimensions")
    return tuple(MapChoice("low_rank", strength, rank) for strength in _STRENGTHS)


def fit_best(old: Array, new: Array, tried: Sequence[MapChoice], seed: int = 0) -> Fitted:
    """The map with the least error on entries that it was not fitted on, of `old` `[n, D]` to `new` `[n, E]`.

    All of unit norm. The entries are parted into five; each fifth is mapped by what is fitted on the other four.

    Raises:
        ConfigError: NaN or infinite components, other numbers of rows, or too few: twice the larger dimension, at
            least 100.
    """
    check_samples(old, new)
    folds = np.random.default_rng(seed).permutation(len(old)) % _FOLDS
    errors = np.zeros(len(tried))
    for fold in range(_FOLDS):
        out = folds == fold
        for number, found in enumerate(_fits(old[~out], new[~out], tried)):
            # Half the squared distance is 1 - cosine, and small ones aren't lost in rounding.
            errors[number] += float(np.sum((found(old[out]).astype(np.float64) - new[out]) ** 2)) / 2
    best = tried[int(np.argmin(errors))]
    held_out = np.empty_like(new)
    for fold in range(_FOLDS):
        out = folds == fold
        held_out[out] = fit(old[~out], new[~out], best)(old[out])
    return Fitted(best, fit(old, new, best), held_out, float(errors.min()) / len(old))


def fit(old: Array, new: Array, choice: MapChoice) -> LinearMap:
    """One map."""
    return next(_fits(old, new, (choice,)))


def num_needed(old_dim: int, new_dim: int) -> int:
    """How many entries with both vectors a fit takes at least."""
    return max(_FEWEST, 2 * max(old_dim, new_dim))


def check_samples(old: Array, new: Array) -> None:
    """Raises ConfigError as `fit_best`."""
    if old.ndim != 2 or new.ndim != 2 or len(old) != len(new):
        raise ConfigError(f"old and new vectors don't fit: {list(old.shape)} and {list(new.shape)}")
    for name, vectors in (("old", old), ("new", new)):
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if bad.size:
            raise ConfigError(f"{name} vectors: row {bad[0]} has NaN or infinite components: leave it out")
    needed = num_needed(old.shape[1], new.shape[1])
    if len(old) < needed:
        raise ConfigError(
            f"an adapter from {old.shape[1]} to {new.shape[1]} dimensions needs {needed} entries with both "
            f"vectors, but there are {len(old)}: embed more pictures again"
        )


def _fits(old: Array, new: Array, tried: Sequence[MapChoice]) -> Iterator[LinearMap]:
    """A map for each choice; what they have in common is computed once."""
    x, y = old.astype(np.float64), new.astype(np.float64)
    mean, offset = x.mean(axis=0), y.mean(axis=0)
    x, y = x - mean, y - offset
    cross = x.T @ y
    values, axes = np.linalg.eigh(x.T @ x)
    values = np.maximum(values, 0.0)
    for choice in tried:
        if choice.kind == "procrustes":
            left, _, right = np.linalg.svd(cross, full_matrices=False)
            yield LinearMap(mean, left @ right, offset)
            continue
        penalty = choice.strength * values.mean() + np.finfo(np.float64).tiny
        weight = axes @ ((axes.T @ cross) / (values + penalty)[:, np.newaxis])
        if choice.rank is not None:
            weight = _of_rank(weight, x, choice.rank)
        yield LinearMap(mean, weight, offset)


def _of_rank(weight: Matrix, x: Matrix, rank: int) -> Matrix:
    """Reduced-rank regression: onto the directions of the fitted vectors with the most variance."""
    fitted = x @ weight
    _, directions = np.linalg.eigh(fitted.T @ fitted)
    kept = directions[:, -rank:]
    return weight @ kept @ kept.T


def _unit(rows: Matrix) -> Matrix:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    # Only where all of a vector is lost, as by a map of rank 1.
    rows = np.where(norms > 0, rows, np.eye(1, rows.shape[1]))
    return rows / np.where(norms > 0, norms, 1.0)
