"""Features of a teacher's Parquet file, joined with the pairs by a key.

`n` pairs, `D` different keys, `F` dimensions. The file is read in parts, so that a rank holds the features of its
own pairs and no others.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import DataError

_FEATURE = "feature"
_ROWS_AT_ONCE = 2**14


class KeyedFeatures:
    """A Parquet file with a column of keys and a column `feature` of lists of numbers, all of one length.

    Raises:
        DataError: the file can't be read, or lacks a column.
    """

    def __init__(self, path: Path, key_column: str) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self._path, self._key_column = path, key_column
        try:
            self._file = parquet.ParquetFile(path, memory_map=True)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(path, error) from error
        if not {key_column, _FEATURE} <= set(self._file.schema_arrow.names):
            raise DataError(f"teacher.path: {path}: needs the columns {key_column!r} and {_FEATURE!r}")

    def of(self, keys: NDArray[Any]) -> NDArray[np.float32]:
        """[n, F], the features of the pairs with the given `keys` [n].

        Raises:
            DataError: a key is missing or has two different features, or features are no vectors of one length.
        """
        import pyarrow as pa

        encoded = pa.array([str(key) for key in keys], pa.large_string()).dictionary_encode()
        wanted, codes = encoded.dictionary, encoded.indices.to_numpy()
        found, is_known = self._found(wanted)
        if not is_known.all():
            missing = wanted[int(is_known.argmin())].as_py()
            raise DataError(f"teacher.path: {self._path}: no feature for {self._key_column} = {missing!r}")
        return found if len(codes) == len(found) else found[codes]

    def _found(self, wanted: Any) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """[D, F] features of the `wanted` keys, and which of them were found."""
        import pyarrow.compute as pc

        found, is_known = np.zeros((len(wanted), 0), dtype=np.float32), np.zeros(len(wanted), dtype=np.bool_)
        for number, (keys, features) in enumerate(self._parts()):
            if number == 0:
                found = np.zeros((len(wanted), features.shape[1]), dtype=np.float32)
            elif features.shape[1] != found.shape[1]:
                raise self._no_vectors()
            places = pc.index_in(keys, wanted)
            features = features[pc.is_valid(places).to_numpy(zero_copy_only=False)]
            places = places.drop_null().to_numpy()
            again = is_known[places]
            two = places[again][_differ(found[places[again]], features[again])]
            found[places], is_known[places] = features, True
            two = np.concatenate([two, places[_differ(found[places], features)]])
            if len(two):
                key = wanted[int(two[0])].as_py()
                raise DataError(
                    f"teacher.path: {self._path}: two different features for {self._key_column} = {key!r}: "
                    "leave one of them"
                )
        return found, is_known

    def _parts(self) -> Iterator[tuple[Any, NDArray[np.float32]]]:
        """Keys as Arrow texts and features [·, F] of some rows after the other."""
        import pyarrow as pa

        try:
            for batch in self._file.iter_batches(_ROWS_AT_ONCE, columns=[self._key_column, _FEATURE]):
                yield _as_texts(batch.column(self._key_column)), self._vectors(batch.column(_FEATURE))
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(self._path, error) from error

    def _vectors(self, column: Any) -> NDArray[np.float32]:
        import pyarrow as pa
        import pyarrow.compute as pc

        try:
            lengths = pc.unique(pc.list_value_length(column))
            numbers = column.flatten().cast(pa.float32(), safe=False)
        except (pa.ArrowException, AttributeError):
            raise self._no_vectors() from None
        if len(lengths) != 1 or column.null_count or numbers.null_count:
            raise self._no_vectors()
        vectors: NDArray[np.float32] = numbers.to_numpy().reshape(len(column), lengths[0].as_py())
        return vectors

    def _no_vectors(self) -> DataError:
        return DataError(
            f"teacher.path: {self._path}: the column {_FEATURE!r} needs lists of numbers, all of one length"
        )


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"teacher.path: {path}: can't be read: {str(error).splitlines()[0]}")


def _as_texts(keys: Any) -> Any:
    """As Python's `str` writes them."""
    import pyarrow as pa

    kind = keys.type
    if pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return keys.cast(pa.large_string())
    return pa.array([None if key is None else str(key) for key in keys.to_pylist()], pa.large_string())


def _differ(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.bool_]:
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    return ~same.all(axis=1)
