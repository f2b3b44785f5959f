"""Which rows of a table are meant, without a number in memory for each: every rank has its own. `N` rows."""

from __future__ import annotations

from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

RowArray: TypeAlias = NDArray[np.integer[Any]]
Index: TypeAlias = slice | NDArray[np.integer[Any]]


def row_type(num_rows: int) -> type[np.signedinteger[Any]]:
    """The smallest integers that number so many rows."""
    return np.int32 if num_rows < 2**31 else np.int64


class _Rows:
    """Read like a NumPy array [N] of row numbers: by a place, a slice, or an array of places."""

    def __len__(self) -> int:
        raise NotImplementedError

    def _at(self, places: RowArray) -> RowArray:
        """The rows at these places, all of them from 0 to N − 1."""
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int | np.integer[Any]) -> int: ...
    @overload
    def __getitem__(self, index: Index) -> RowArray: ...
    def __getitem__(self, index: int | np.integer[Any] | Index) -> int | RowArray:
        if isinstance(index, slice):
            return self._at(np.arange(*index.indices(len(self))))
        places = np.asarray(index)
        if places.dtype == np.bool_:
            raise IndexError("rows are chosen by their places, not by a mask: see `marked_rows`")
        if places.size and not (-len(self) <= places.min() and places.max() < len(self)):
            raise IndexError(f"a place beyond the {len(self)} rows")
        found = self._at(np.where(places < 0, places + len(self), places))
        return found if isinstance(index, np.ndarray) else int(found)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All row numbers, in memory."""
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)


class AllBut(_Rows):
    """The rows 0 to `num_rows` − 1 in their order, without those that are left out.

    Args:
        left_out: ascending, none twice; memory is taken for these alone.
    """

    def __init__(self, left_out: RowArray, num_rows: int) -> None:
        self._kind = row_type(num_rows)
        # How many rows come before each that is left out, of those that are not.
        self._before = (left_out - np.arange(len(left_out))).astype(self._kind)
        self._num_rows = num_rows

    def __len__(self) -> int:
        return self._num_rows - len(self._before)

    @property
    def left_out(self) -> RowArray:
        """The rows that are left out, ascending."""
        return np.add(self._before, np.arange(len(self._before)), dtype=self._kind)

    def _at(self, places: RowArray) -> RowArray:
        # Of the same type: else all numbers would be converted for each search.
        places = places.astype(self._kind)
        return np.add(places, np.searchsorted(self._before, places, side="right"), dtype=self._kind)


class RowsOfRows(_Rows):
    """`rows[places]`, whose numbers are looked up when they are asked for."""

    def __init__(self, rows: Rows, places: AllBut) -> None:
        self._rows, self._places = rows, places

    def __len__(self) -> int:
        return len(self._places)

    def _at(self, places: RowArray) -> RowArray:
        return np.asarray(self._rows[self._places[places]])


Rows: TypeAlias = RowArray | AllBut | RowsOfRows
"""[N] row numbers: an array, or what is read like one."""


def all_rows(num_rows: int) -> AllBut:
    """The rows 0 to `num_rows` − 1."""
    return AllBut(np.zeros(0, dtype=np.int64), num_rows)


def marked_rows(mask: NDArray[np.bool_]) -> Rows:
    """The rows that a mask [N] marks, as what takes less memory."""
    if 2 * np.count_nonzero(mask) > len(mask):
        return AllBut(np.flatnonzero(~mask), len(mask))
    return np.flatnonzero(mask).astype(row_type(len(mask)))


def chosen_rows(rows: Rows | None, places: Rows) -> Rows:
    """`rows[places]`, the rows of a view of a view; None: all rows."""
    if rows is None:
        return places
    if not isinstance(places, AllBut):
        return rows[np.asarray(places)]
    if not isinstance(rows, AllBut):
        return RowsOfRows(rows, places)
    left_out = np.concatenate([rows.left_out, rows[places.left_out]])
    return AllBut(np.sort(left_out), rows._num_rows)
