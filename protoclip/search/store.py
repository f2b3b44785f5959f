"""The interface of vector stores, whatever library holds the vectors. `Q` queries, `n` vectors, `D` embedding."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from protoclip.contract.errors import ConfigError

Array = NDArray[np.float32]
Keys = NDArray[np.int64]
FaissType = Literal["IDMap2,Flat"]


class VectorStore(Protocol):
    """Holds vectors of unit norm by integer keys and finds the nearest by inner product."""

    @property
    def faiss_type(self) -> FaissType:
        """The store's type, as a string for faiss's index factory."""

    def add(self, keys: Keys, vectors: Array) -> None:
        """Adds `vectors` `[n, D]` under `keys` `[n]`."""

    def search(self, vectors: Array, k: int) -> tuple[Array, Keys]:
        """Inner products `[Q, k]`, largest first, and their keys `[Q, k]`."""

    def save(self, path: Path) -> None:
        """Writes all vectors to a file."""


def unit_rows(vectors: ArrayLike, dim: int) -> Array:
    """`vectors` as float32 `[n, D]` of unit norm; `[D]` becomes `[1, D]`.

    Raises:
        ConfigError: not numbers, another shape, NaN or infinite components, or a row of zeros.
    """
    try:
        array = np.asarray(vectors, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"vectors are no array of numbers: {error}") from error
    rows = array[np.newaxis] if array.ndim == 1 else array
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise ConfigError(f"vectors of shape {list(array.shape)} don't fit: the index holds [N, {dim}]")
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if bad.size:
        raise ConfigError(f"vectors: row {bad[0]} has NaN or infinite components: leave out the rows of bad items")
    norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    if not norms.all():
        raise ConfigError(f"vectors: row {int(np.argmin(norms))} is all zeros and has no cosine with anything")
    return np.ascontiguousarray(rows / norms, dtype=np.float32)
