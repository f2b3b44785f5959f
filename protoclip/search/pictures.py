"""The pictures of an index: where a build read them, and their bytes by the entries' ids."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile

from protoclip.contract.errors import ConfigError, DataError, IndexFileError
from protoclip.sources import Pairs, ReadOptions, read_pairs
from protoclip.sources.listing import find_file
from protoclip.sources.stored import ImageColumn

from .source_record import READ, Record, options_of, remembered_sources
from .tables import Facts


@dataclass(frozen=True)
class PicturePlace:
    """Where pictures of an index are.

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
        places: `Index.pictures`. The first of them that has an id gives its picture; behind one that can't be read
            none is asked.

    Raises:
        DataError: the first is not there, can't be read, or is a table that has changed since, or there is none.
        ConfigError: it can be read in two ways.
    """

    def __init__(self, places: Sequence[PicturePlace]) -> None:
        if not places:
            raise DataError("the index doesn't say where its pictures are")
        self._found = [_Listed(places[0])]
        with suppress(DataError, ConfigError):
            for place in places[1:]:
                self._found.append(_Listed(place))

    def __len__(self) -> int:
        return len({name for listed in self._found for name in listed.rows})

    def __contains__(self, name: str) -> bool:
        return any(name in listed.rows for listed in self._found)

    def read(self, name: str) -> bytes:
        """The encoded bytes of the picture that the entry `name` was made of.

        Raises:
            DataError: no picture has this id, or its file can't be read.
        """
        for listed in self._found:
            row = listed.rows.get(name)
            if row is not None:
                return listed.pairs.read_image(row)
        raise DataError(f"{name!r}: no picture has this id")


class _Listed:
    """The pictures of one place; errors as `IndexPictures`."""

    def __init__(self, place: PicturePlace) -> None:
        self.pairs = read_pairs(place.options)
        if place.tables is not None and place.tables != table_states(self.pairs):
            raise DataError(
                f"{', '.join(place.options.paths)}: has changed since the index was built, so that its rows "
                "can't be told: build the index again"
            )
        self.rows = {name: row for row, name in enumerate(picture_names(self.pairs))}


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


def places_of(facts: Facts) -> tuple[PicturePlace, ...]:
    """Where an index says that its pictures are, in the order in which they are to be asked.

    Up to the first source that isn't read as a whole, as a list of paths is, whose pictures nobody looks for by an
    id; none of what this version can't read.
    """
    try:
        records = remembered_sources(facts, "")
        if not records and facts.get("pictures") is not None:
            # Earlier versions kept it twice, and of `create` only here.
            records = [{"kind": READ, **json.loads(str(facts["pictures"]))}]
        return tuple(map(_place, takewhile(lambda record: record["kind"] == READ, records)))
    except (IndexFileError, ValueError, TypeError):
        return ()


def _place(record: Record) -> PicturePlace:
    options, states = options_of(record, ""), record.get("tables")
    if not isinstance(options.paths, tuple):
        raise TypeError("paths are a list")
    return PicturePlace(options, None if states is None else tuple(map(str, states)))


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
