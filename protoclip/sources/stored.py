"""Pictures where they lie: files, bytes in a table, members of a tar, objects in a store. `N` rows."""

from __future__ import annotations

import io
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import DataError

from .files import is_address, join, read_range, resolved, text_to_name
from .row_choice import Rows, chosen_rows
from .stores import fetch


@dataclass(frozen=True)
class StoredPicture:
    """A picture in an object store or inside a tar: `size` bytes from `offset` on, all of the file where None."""

    address: str
    name: str
    offset: int | None = None
    size: int = 0

    def __str__(self) -> str:
        return self.address if self.offset is None else f"{self.address}: {self.name}"

    def read_bytes(self) -> bytes:
        """Its encoded bytes; DataError where they can't be read."""
        if self.offset is not None:
            return read_range(self.address, self.offset, self.size)
        try:
            return fetch(self.address)
        except DataError as error:
            if "\\" not in self.address:
                raise
            try:
                # Windows wrote the name, where only that leads to an object.
                return fetch(self.address.replace("\\", "/"))
            except DataError:
                raise error from None


@dataclass(frozen=True, slots=True)
class RowPicture:
    """The picture of one row of a table that may hold the pictures themselves."""

    images: Sequence[Image]
    row: int

    def read_bytes(self) -> bytes:
        """Its encoded bytes; DataError where they can't be read."""
        return read_picture(self.images[self.row])


class PictureStream:
    """A picture as an open file, which is fetched at the first read."""

    def __init__(self, picture: StoredPicture | RowPicture) -> None:
        self._picture = picture
        self._stream: io.BytesIO | None = None

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; DataError where the picture can't be read."""
        if self._stream is None:
            self._stream = io.BytesIO(self._picture.read_bytes())
        return self._stream.read(size)


Image: TypeAlias = Path | bytes | StoredPicture


@dataclass(frozen=True)
class Origin:
    """Where the rows from `first_row` on are from: the folder of their names, or the archive that holds them.

    `source` is the number of the path that they were found at; `table` the part's name, for messages, and
    `first_place` the place of its first row among all that were read.
    """

    first_row: int
    folder: str
    archive: str | None = None
    source: int = 0
    table: str = ""
    first_place: int = 0


def read_picture(image: Image) -> bytes:
    """The encoded bytes.

    Raises:
        DataError: its file can't be read.
    """
    if isinstance(image, bytes):
        return image
    try:
        return image.read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"{image}: can't be read: {getattr(error, 'strerror', None) or error}") from error


class ImageColumn(Sequence[Image]):
    """[N] pictures of an Arrow table with the column `image`, or `bytes`, or both.

    Args:
        rows: [N], the rows of the table; None: all.
    """

    def __init__(self, table: Any, origins: Sequence[Origin], rows: Rows | None = None) -> None:
        self._table, self.origins, self._rows = table, tuple(origins), rows
        self._first_rows = [origin.first_row for origin in origins]
        names = [name for name in ("image", "bytes", "offset", "size") if name in table.column_names]
        self._columns = {name: table.column(name) for name in names}

    def __len__(self) -> int:
        return self._table.num_rows if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> list[Image]: ...
    def __getitem__(self, index: int | slice) -> Image | list[Image]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        place = index % len(self)
        return self._image(place if self._rows is None else int(self._rows[place]))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[Image]:
        return (self[i] for i in range(len(self)))

    def name(self, index: int) -> str | None:
        """What the table, folder or archive calls a picture; None where it has no name."""
        row = index if self._rows is None else int(self._rows[index])
        found = self._columns["image"][row].as_py()
        return None if found is None else text_to_name(found)

    def origin(self, index: int) -> Origin:
        """Where a picture is from."""
        return self._origin(index if self._rows is None else int(self._rows[index]))

    @property
    def sources(self) -> NDArray[np.int64]:
        """[N], the number of the path that each was found at."""
        rows = np.arange(len(self)) if self._rows is None else np.asarray(self._rows)
        places = np.searchsorted(self._first_rows, rows, side="right") - 1
        return np.array([origin.source for origin in self.origins], dtype=np.int64)[places]

    @property
    def common_folder(self) -> str:
        """The longest folder that all origins lie in."""
        return "/".join(
            commonprefix(  # noqa: RUF071 - of lists, which it compares part by part
                [(origin.archive or origin.folder).split("/") for origin in self.origins]
            )
        )

    def taken(self, positions: Rows) -> ImageColumn:
        """The given rows of these, in their order."""
        return ImageColumn(self._table, self.origins, chosen_rows(self._rows, positions))

    def is_in_table(self, index: int) -> bool:
        """Whether a picture is bytes in the table itself."""
        row = index if self._rows is None else int(self._rows[index])
        return self.are_in_table and bool(self._columns["bytes"][row].is_valid)

    @property
    def are_in_table(self) -> bool:
        """Whether some may be bytes in the table itself."""
        return "bytes" in self._columns

    @property
    def are_files(self) -> bool:
        """Whether each has a path or an address of its own, and none lies in the table or in a tar."""
        return "bytes" not in self._columns and "offset" not in self._columns

    def _origin(self, row: int) -> Origin:
        return self.origins[bisect_right(self._first_rows, row) - 1]

    def _image(self, row: int) -> Image:
        stored = self._columns["bytes"][row].as_py() if "bytes" in self._columns else None
        if stored is not None:
            return bytes(stored)
        name = text_to_name(self._columns["image"][row].as_py())
        origin = self._origin(row)
        if origin.archive is not None:
            offset, size = (self._columns[key][row].as_py() for key in ("offset", "size"))
            return StoredPicture(origin.archive, name, offset, size)
        name = resolved(name) if ":" in name else name
        address = join(origin.folder, name)
        return StoredPicture(address, name) if is_address(address) else _written_here(origin.folder, name)


def _written_here(folder: str, name: str) -> Path:
    """A path as it stands in the table; where no file is there, one that another system or a shell writes so."""
    place = Path(join(folder, name))
    if "\\" not in name and name.isascii() and not name.startswith("~"):
        return place
    if place.exists():
        return place
    return next((other for other in _other_ways(folder, name) if other.exists()), place)


def _other_ways(folder: str, name: str) -> Iterator[Path]:
    """With the slashes of this system, with letters as macOS composes them or not, and from the home folder."""
    name = name.replace("\\", "/")
    yield Path(join(folder, name))
    for form in ("NFC", "NFD"):
        yield Path(join(folder, unicodedata.normalize(form, name)))
    if name.startswith("~/"):
        yield Path(name).expanduser()
