"""Columns of an Arrow table as sequences that need not be in memory. `N` rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from .row_choice import RowArray, Rows, chosen_rows

_BLOCK = 10_000


class TextColumn(Sequence[tuple[str, ...]]):
    """[N] texts of each pair, from an Arrow column of lists.

    Args:
        rows: [N], the rows of the column; None: all.
        num_distinct: how many different ones the N pairs have, where that is known.
    """

    def __init__(self, column: Any, rows: Rows | None = None, num_distinct: int | None = None) -> None:
        self.column, self.rows, self._num_distinct = column, rows, num_distinct

    def __len__(self) -> int:
        return len(self.column) if self.rows is None else len(self.rows)

    @overload
    def __getitem__(self, index: int) -> tuple[str, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[str, ...]]: ...
    def __getitem__(self, index: int | slice) -> tuple[str, ...] | list[tuple[str, ...]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        place = index % len(self)
        return tuple(self.column[place if self.rows is None else int(self.rows[place])].as_py())

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        for values in column_values(self.column, self.rows):
            yield from map(tuple, values)

    @property
    def num_distinct(self) -> int:
        """How many pairs have other texts than all pairs before them, up to the chance of equal hashes."""
        if self._num_distinct is None:
            self._num_distinct = count_distinct([text_hashes(*block) for block in self.blocks()])
        return self._num_distinct

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], Any]]:
        """Blocks of rows: how many texts each has, and all of them as one Arrow array of texts."""
        for lists in column_arrays(self.column, self.rows):
            counts = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
            yield counts.astype(np.int64), lists.flatten()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


class TableColumns(Mapping[str, NDArray[Any]]):
    """Columns of an Arrow table by name, each an object array [N] of texts that is made when it is asked for.

    Args:
        columns: the others than picture and texts, by name.
        captions: the name of the one column of texts, which is the first text of each row, and the column of
            lists.
        rows: [N], the rows of the table; None: all.
        left_out: columns of the data that are not among these, and why.
    """

    def __init__(
        self,
        columns: Mapping[str, Any],
        captions: tuple[str, Any] | None = None,
        rows: Rows | None = None,
        left_out: Mapping[str, str] | None = None,
    ) -> None:
        self.columns, self.captions, self.rows = columns, captions, rows
        self.left_out = dict(left_out or {})

    def __getitem__(self, name: str) -> NDArray[Any]:
        if self.captions is not None and name == self.captions[0] and name not in self.columns:
            column = self.captions[1]
            return self._made(column, lambda texts: texts[0] if texts else "")
        return self._made(self.columns[name], as_text)

    def raw(self, name: str) -> Iterator[Any]:
        """The values of one of `columns` as they are in the table: numbers, lists, None."""
        for values in column_values(self.columns[name], self.rows):
            yield from values

    def _made(self, column: Any, as_value: Callable[[Any], str]) -> NDArray[Any]:
        found = np.empty(len(column) if self.rows is None else len(self.rows), dtype=object)
        start = 0
        for values in column_values(column, self.rows):
            found[start : start + len(values)] = [as_value(value) for value in values]
            start += len(values)
        return found

    def __iter__(self) -> Iterator[str]:
        extra = [] if self.captions is None or self.captions[0] in self.columns else [self.captions[0]]
        return iter([*self.columns, *extra])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def taken(self, positions: Rows) -> TableColumns:
        """The same columns with other rows."""
        return TableColumns(self.columns, self.captions, chosen_rows(self.rows, positions), self.left_out)


def column_values(column: Any, rows: Rows | None = None, size: int = _BLOCK) -> Iterator[list[Any]]:
    """Lists of at most `size` values: of all rows of an Arrow column, or of the given ones in their order."""
    for block in column_arrays(column, rows, size):
        yield block.to_pylist()


def values_at(column: Any, rows: RowArray) -> list[Any]:
    """The values of the given rows."""
    return list(_array_at(column, rows).to_pylist())


def column_arrays(column: Any, rows: Rows | None = None, size: int = _BLOCK) -> Iterator[Any]:
    """As `column_values`, each block as an Arrow array."""
    total = len(column) if rows is None else len(rows)
    for start in range(0, total, size):
        yield (
            _joined(column.slice(start, size)) if rows is None else _array_at(column, rows[start : start + size])
        )


def _array_at(column: Any, rows: RowArray) -> Any:
    import pyarrow as pa

    if not len(rows):
        return _joined(column.slice(0, 0))
    first, last = int(rows.min()), int(rows.max()) + 1
    # A take from all chunks of a large column joins them first: rows that lie close together are taken at once.
    if last - first <= 8 * len(rows):
        return _joined(column.slice(first, last - first)).take(pa.array(rows - first))
    return pa.array([column[int(row)].as_py() for row in rows], column.type)


def _joined(column: Any) -> Any:
    """One Arrow array of a short column."""
    import pyarrow as pa

    if isinstance(column, pa.Array):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def text_hashes(counts: NDArray[np.int64], values: Any) -> NDArray[np.int64]:
    """[n] hashes of the texts of n pairs, as `TextColumn.blocks` gives them. Of this process only."""
    own = values.to_pylist()
    if (counts == 1).all():
        return np.fromiter(map(hash, own), np.int64, len(own))
    ends = np.cumsum(counts).tolist()
    texts = (own[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True))
    return np.fromiter((hash(t[0]) if len(t) == 1 else hash(tuple(t)) for t in texts), np.int64, len(counts))


def count_distinct(hashes: list[NDArray[np.int64]]) -> int:
    """How many different ones there are; `hashes` is emptied, since millions of them take much memory."""
    if not hashes:
        return 0
    every = np.concatenate(hashes)
    hashes.clear()
    every.sort()
    return int((every[1:] != every[:-1]).sum()) + min(1, len(every))


def num_texts(texts: Sequence[tuple[str, ...]]) -> int:
    """How many texts all pairs have together."""
    if isinstance(texts, TextColumn):
        return int(sum(counts.sum() for counts, _ in texts.blocks()))
    return sum(map(len, texts))


def as_text(value: Any) -> str:
    """A value of a table as text; a missing one, and NaN, is the empty text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None or value != value else str(value)
