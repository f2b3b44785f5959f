"""Image–text pairs, and the columns of an Arrow table as the sequences that `Pairs` holds. `N` rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import DataError
from protoclip.contract.picture_folders import Skipped

from .columns import TableColumns, TextColumn
from .row_choice import AllBut, Rows, RowsOfRows, chosen_rows, marked_rows, row_type
from .stored import Image, ImageColumn, Origin, read_picture

# In the metadata of a table's schema: the name of its one column of texts.
CAPTION_KEY = b"caption column"
LEFT_OUT_KEY = b"columns left out"


@dataclass(frozen=True)
class Pairs:
    """N pictures with their texts; `left_out` is what was passed over when they were read.

    `images`, `texts` and `columns` may be lists, tuples and arrays of your own; those that `read_pairs` gives are
    views of an Arrow table, which may lie on disk.

    Attributes:
        images: [N], a path, the encoded bytes, or the place in an archive of each picture.
        texts: [N], the texts of each picture, none empty; the first is its label text.
        columns: the other columns, [N] each.
        places: [N], the row of each among the `num_read` rows that were read, before any was left out; by default
            0 to N − 1.
    """

    images: Sequence[Image]
    texts: Sequence[tuple[str, ...]]
    columns: Mapping[str, NDArray[Any]]
    places: Rows = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    num_read: int = 0
    left_out: tuple[Skipped, ...] = ()

    def __post_init__(self) -> None:
        if not self.num_read:
            object.__setattr__(self, "places", np.arange(len(self)))
            object.__setattr__(self, "num_read", len(self))

    def __len__(self) -> int:
        return len(self.texts)

    def read_image(self, index: int) -> bytes:
        """The encoded bytes of one picture.

        Raises:
            DataError: its file can't be read.
        """
        return read_picture(self.images[index])

    def picture_place(self, index: int) -> str:
        """Where a picture is from, for messages: `shop/1.jpg`, or `shop.parquet: row 7 (1.jpg)` in a table."""
        place = int(self.places[index])
        if isinstance(self.images, ImageColumn) and self.images.is_in_table(index):
            origin, name = self.images.origin(index), self.images.name(index)
            own = "" if name is None else f" ({name})"
            return f"{origin.table}: row {place - origin.first_place}{own}"
        image = self.images[index]
        return f"row {place}" if isinstance(image, bytes) else str(image)

    def select(self, rows: Rows | NDArray[np.bool_]) -> Pairs:
        """The given rows (positions, or a mask [N]) in their order; as in NumPy, −1 is the last.

        Raises:
            IndexError: there are not so many.
        """
        positions = _positions(rows, len(self), self.num_read)
        return Pairs(
            images=_taken(self.images, positions),
            texts=_taken(self.texts, positions),
            columns=self.columns.taken(positions)
            if isinstance(self.columns, TableColumns)
            else {name: column[np.asarray(positions)] for name, column in self.columns.items()},
            places=chosen_rows(self.places, positions),
            num_read=self.num_read,
            left_out=self.left_out,
        )

    def column(self, name: str) -> NDArray[Any]:
        """A column by name.

        Raises:
            DataError: there is none of that name.
        """
        if name not in self.columns:
            raise DataError(f"column {name!r} is not in the data: it has {', '.join(sorted(self.columns))}")
        return self.columns[name]


def table_pairs(
    table: Any,
    origins: Sequence[Origin],
    places: Rows,
    num_read: int,
    left_out: tuple[Skipped, ...],
    num_distinct: int | None = None,
) -> Pairs:
    """The pairs of a table as `form_rows` makes it, with all its rows."""
    columns = {name[1:]: table.column(name) for name in table.column_names if name.startswith(":")}
    caption = (table.schema.metadata or {}).get(CAPTION_KEY)
    captions = None if caption is None else (caption.decode(), table.column("texts"))
    images, texts = ImageColumn(table, origins), TextColumn(table.column("texts"), None, num_distinct)
    reasons = json.loads((table.schema.metadata or {}).get(LEFT_OUT_KEY, b"{}"))
    return Pairs(images, texts, TableColumns(columns, captions, left_out=reasons), places, num_read, left_out)


def _positions(rows: Rows | NDArray[np.bool_], num_pairs: int, num_rows: int) -> Rows:
    if isinstance(rows, AllBut | RowsOfRows):
        return rows
    given = np.asarray(rows)
    if given.dtype == np.bool_:
        if len(given) != num_pairs:
            raise IndexError(f"a mask of {len(given)} for {num_pairs} pairs")
        return marked_rows(given.astype(np.bool_, copy=False))
    if given.size and not (-num_pairs <= given.min() and given.max() < num_pairs):
        raise IndexError(f"a position beyond the {num_pairs} pairs")
    positions = given.astype(row_type(num_rows), copy=False)
    return positions if not positions.size or positions.min() >= 0 else positions % num_pairs


def _taken(values: Sequence[Any], positions: Rows) -> Any:
    if isinstance(values, ImageColumn):
        return values.taken(positions)
    if isinstance(values, TextColumn):
        return TextColumn(values.column, chosen_rows(values.rows, positions))
    taken = [values[i] for i in np.asarray(positions)]
    return tuple(taken) if isinstance(values, tuple) else taken
