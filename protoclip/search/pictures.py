"""The pictures of an index: where a build read them, and their bytes by the entries' ids."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from protoclip.contract.errors import DataError
from protoclip.sources import Pairs, ReadOptions, read_pairs
from protoclip.sources.files import is_address
from protoclip.sources.listing import find_file
from protoclip.sources.stored import ImageColumn

from .source_record import may_hold_secret


@dataclass(frozen=True)
class PicturePlace:
    """Where an index's pictures are.

    Attributes:
        options: how they were read.
        tables: size and time of change of each table that holds pictures, whose ids may be numbers of rows; None:
            whatever is there now.
    """

    options: ReadOptions
    tables: tuple[str, ...] | None = None


class IndexPictures:
    """Reads pictures by id. An id is only looked up among those that were read, and never taken for a path.

    Args:
        place: what the index was built from.

    Raises:
        DataError: it is not there, can't be read, or is a table that has changed since. ConfigError: it can be
            read in two ways.
    """

    def __init__(self, place: PicturePlace) -> None:
        self._pairs = read_pairs(place.options)
        if place.tables is not None and place.tables != table_states(self._pairs):
            raise DataError(
                f"{', '.join(place.options.paths)}: has changed since the index was built, so that its rows "
                "can't be told: build the index again"
            )
        self._rows = {name: row for row, name in enumerate(picture_names(self._pairs))}

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def read(self, name: str) -> bytes:
        """The encoded bytes of the picture that the entry `name` was made of.

        Raises:
            DataError: no picture has this id, or its file can't be read.
        """
        row = self._rows.get(name)
        if row is None:
            raise DataError(f"{name!r}: no picture has this id")
        return self._pairs.read_image(row)


def picture_names(pairs: Pairs) -> Iterator[str]:
    """The ids of pictures in an index, row by row: names, after their folder's where there are several.

    A picture in a table without a name has its row's number, and one of a name that is taken both: `0.png#17`.
    """
    images = pairs.images
    assert isinstance(images, ImageColumn)
    used: set[str] = set()
    for row in range(len(pairs)):
        name = _name(images, row, pairs)
        # Pictures in a table may have one name, and are different ones all the same.
        if images.are_in_table and name in used:
            name = f"{name}#{pairs.places[row]}"
        used.add(name)
        yield name


def record_of(options: ReadOptions, pairs: Pairs) -> str | None:
    """What an index keeps of where its pictures are, in JSON, with absolute paths; `pairs` are what was read.

    None where a path can't be printed, as JSON holds no bytes that aren't text, or an address may hold a secret.
    """
    if may_hold_secret(options):
        return None
    paths = tuple(path if is_address(path) else str(Path(path).absolute()) for path in options.paths)
    if not all(path.isprintable() for path in paths):
        return None
    values = asdict(replace(options, paths=paths))
    del values["cache_dir"]
    return json.dumps({"options": values, "tables": table_states(pairs)})


def place_of(record: str | None) -> PicturePlace | None:
    """What `record_of` wrote; None where there is none, or one of a later version."""
    if record is None:
        return None
    try:
        found = json.loads(record)
        tables = found["tables"]
        return PicturePlace(_options(found["options"]), None if tables is None else tuple(map(str, tables)))
    except (ValueError, TypeError, LookupError):
        return None


def _options(values: Mapping[str, Any]) -> ReadOptions:
    known = {field.name for field in fields(ReadOptions)} - {"cache_dir"}
    if not values.keys() <= known or not isinstance(values["paths"], list):
        raise ValueError("of a later version")
    given: dict[str, Any] = {
        name: tuple(map(str, one)) if isinstance(one, list) else one for name, one in values.items()
    }
    return ReadOptions(**given)


def table_states(pairs: Pairs) -> tuple[str, ...] | None:
    """A word for the state of each table that holds pictures itself; None where none does."""
    images = pairs.images
    assert isinstance(images, ImageColumn)
    if not images.are_in_table:
        return None
    found = (find_file(origin.table) for origin in images.origins)
    return tuple("" if file is None else f"{file.size} {file.changed}" for file in found)


def _name(images: ImageColumn, row: int, pairs: Pairs) -> str:
    name = images.name(row)
    if name is None:
        return str(pairs.places[row])
    if len(images.origins) == 1:
        return name
    origin = images.origin(row)
    return f"{(origin.archive or origin.folder).removeprefix(images.common_folder).strip('/')}/{name}".lstrip("/")
