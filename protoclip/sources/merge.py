"""Rows of one picture file become one pair with the texts of all of them. `N` rows, `G` pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import DataError

from .columns import values_at
from .files import is_address
from .part import Part

_CHUNK = 20_000
_BYTES_CHUNK = 500
_OTHER_WAYS = r"\\|//|(?:^|/)\./"
_ADDRESS = r"^(?:[A-Za-z][A-Za-z0-9+.-]+::)*[A-Za-z][A-Za-z0-9+.-]+://"


def row_hashes(batch: Any, part: Part, apart: Sequence[str], first_row: int) -> NDArray[np.int64]:
    """[n] hashes of what makes rows one pair: the file and the columns in `apart`. Of this process only.

    A picture in a table or an archive itself is a pair of its own.

    Args:
        first_row: the number of the first of these rows among all.
    """
    from pyarrow import compute

    if part.archive:
        return _own_hashes(batch, first_row)

    names = batch.column("image")
    written_otherwise = compute.match_substring_regex(names, _OTHER_WAYS)
    values = names.to_pylist()
    if compute.any(written_otherwise).as_py():
        values = [None if name is None else _one_way(name) for name in values]
    others = [batch.column(f":{name}").to_pylist() for name in apart]
    hashed = map(hash, zip(values, *others, strict=True)) if apart else map(hash, values)
    found = np.fromiter(hashed, np.int64, batch.num_rows) ^ np.where(
        _is_whole(names, part), 0, np.int64(hash(part.folder))
    )
    if "bytes" not in batch.schema.names:
        return found
    named = batch.column("bytes").is_null().to_numpy(zero_copy_only=False)
    return np.where(named, found, _own_hashes(batch, first_row))


def _is_whole(names: Any, part: Part) -> NDArray[np.bool_]:
    """[n], whether a name alone says where the picture is, as `join` puts it behind the folder or not."""
    from pyarrow import compute

    whole = compute.match_substring_regex(names, _ADDRESS)
    if not is_address(part.folder):
        whole = compute.or_(whole, compute.starts_with(names, "/"))
    return np.asarray(whole.fill_null(False).to_numpy(zero_copy_only=False), dtype=np.bool_)


def _own_hashes(batch: Any, first_row: int) -> NDArray[np.int64]:
    rows = range(first_row, first_row + batch.num_rows)
    return np.fromiter((hash(("a row of its own", row)) for row in rows), np.int64, batch.num_rows)


def _one_way(name: str) -> str:
    """The same for the ways to write one path: `b/a`, `./b/a`, `b//a` and, as Windows has it, `b\\a`."""
    first, *parts = name.replace("\\", "/").split("/")
    return "/".join([*([] if first == "." else [first]), *(part for part in parts if part not in ("", "."))])


@dataclass(frozen=True)
class SameRows:
    """Rows by picture, in the order of their first rows: `order` [N], `starts` [G + 1] in it."""

    order: NDArray[np.int64]
    starts: NDArray[np.int64]

    @property
    def first_rows(self) -> NDArray[np.int64]:
        """[G], the first row of each picture."""
        return self.order[self.starts[:-1]]


def find_same_rows(hashes: NDArray[np.int64]) -> SameRows | None:
    """Groups of equal hashes `[N]`; None where no two are equal."""
    if not has_equal(hashes):
        return None
    order = np.argsort(hashes, kind="stable")
    sorted_hashes = hashes[order]
    new = np.concatenate([[True], sorted_hashes[1:] != sorted_hashes[:-1]])
    starts = np.flatnonzero(new)
    lengths = np.diff(np.append(starts, len(hashes)))
    by_first = np.argsort(order[starts], kind="stable")
    starts, lengths = starts[by_first], lengths[by_first]
    ends = np.cumsum(lengths)
    within = np.arange(len(hashes)) - np.repeat(ends - lengths, lengths)
    return SameRows(order[np.repeat(starts, lengths) + within], np.concatenate([[0], ends]))


def has_equal(hashes: NDArray[np.int64]) -> bool:
    """Whether two of them are equal."""
    ordered = np.sort(hashes)
    return bool((ordered[1:] == ordered[:-1]).any())


def merged_batches(table: Any, same: SameRows, agreeing: Sequence[str] = ()) -> Iterator[Any]:
    """The rows of a table with one row a picture, as batches: its first row, with the texts of all of its rows.

    Raises:
        DataError: rows of one picture have different values in one of the columns `agreeing`.
    """
    import pyarrow as pa

    size = _BYTES_CHUNK if "bytes" in table.column_names else _CHUNK
    for begin in range(0, len(same.starts) - 1, size):
        starts = same.starts[begin : begin + size + 1]
        rows = same.order[starts[0] : starts[-1]]
        bounds = (starts - starts[0]).tolist()
        names, texts = (values_at(table.column(name), rows) for name in ("image", "texts"))
        for column in (name for name in agreeing if f":{name}" in table.schema.names):
            _check_agreement(values_at(table.column(f":{column}"), rows), names, bounds, column)
        for first, last in pairwise(bounds):
            assert last - first == 1 or len({_one_way(name) for name in names[first:last]}) == 1, (
                "two pictures have one hash: read again"
            )
        merged = [
            list(dict.fromkeys(text for own in texts[first:last] for text in own))
            for first, last in pairwise(bounds)
        ]
        firsts = rows[bounds[:-1]]
        arrays = [
            pa.array(merged if field.name == "texts" else values_at(table.column(field.name), firsts), field.type)
            for field in table.schema
        ]
        yield pa.record_batch(arrays, table.schema)


def _check_agreement(values: list[Any], pictures: list[Any], bounds: list[int], column: str) -> None:
    for first, last in pairwise(bounds):
        other = next((value for value in values[first:last] if value != values[first]), None)
        if other is not None:
            raise DataError(
                f"column {column!r}: two rows of the picture {pictures[first]} have {values[first]!r} and "
                f"{other!r}, but they are one pair, which has one: give them the same, or keep them apart by "
                f"data.group_column={column}"
            )
