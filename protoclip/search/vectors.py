"""Vectors as arrays and as bytes. `n` vectors, `D` embedding."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from protoclip.contract.errors import ConfigError, IndexFileError

Array: TypeAlias = NDArray[np.float32]
Keys: TypeAlias = NDArray[np.int64]
_STORED = np.dtype("<f4")


def unit_rows(vectors: ArrayLike, dim: int) -> Array:
    """`vectors` as float32 `[n, D]` of unit norm; `[D]` becomes `[1, D]`. Of any length, which is lost.

    Raises:
        ConfigError: not real numbers, another shape, NaN or infinite components, a row of zeros, or one whose norm
            is beyond float64.
    """
    try:
        array = np.asarray(vectors)
        if array.dtype.kind not in "fiubO":
            raise TypeError(f"they are of type {array.dtype}")
        if array.dtype.kind != "f":
            array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"vectors are no array of numbers: {error}") from error
    rows = array[np.newaxis] if array.ndim == 1 else array
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise ConfigError(f"vectors of shape {list(array.shape)} don't fit: the index holds [N, {dim}]")
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if bad.size:
        raise ConfigError(f"vectors: row {bad[0]} has NaN or infinite components: leave out the rows of bad items")
    # In float64 before all: of numbers that are small or large for float32 the direction would change, or be lost.
    with np.errstate(over="ignore"):
        norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(norms).all():
        raise ConfigError(f"vectors: row {int(np.argmax(norms))} is too long: scale it down")
    if not norms.all():
        raise ConfigError(f"vectors: row {int(np.argmin(norms))} is all zeros and has no cosine with anything")
    return np.ascontiguousarray(rows / norms, dtype=np.float32)


def to_rows(keys: Iterable[int], vectors: Array) -> list[tuple[int, bytes, int]]:
    """Rows of the table `vectors`: key, bytes (float32, little-endian) and their checksum."""
    stored = (vector.astype(_STORED, copy=False).tobytes() for vector in vectors)
    return [(key, data, zlib.crc32(data)) for key, data in zip(keys, stored, strict=True)]


def from_rows(rows: Sequence[tuple[int, bytes, int]], dim: int, place: object) -> tuple[Keys, Array]:
    """Keys `[n]` and vectors `[n, D]` of what `to_rows` made.

    Raises:
        IndexFileError: a vector isn't what was written; `place` is the file.
    """
    for key, data, checksum in rows:
        if len(data) != dim * _STORED.itemsize or zlib.crc32(data) != checksum:
            raise IndexFileError(
                f"{place}: the vector of entry {key} is damaged or changed since it was written: build the index "
                "again"
            )
    keys = np.fromiter((key for key, _, _ in rows), dtype=np.int64, count=len(rows))
    joined = np.frombuffer(b"".join(data for _, data, _ in rows), dtype=_STORED)
    return keys, joined.astype(np.float32, copy=False).reshape(len(rows), dim)
