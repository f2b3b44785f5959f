"""Reading an index: entries, counts and what they were made of, each call of one moment. `N` entries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from protoclip.contract.errors import ConfigError
from protoclip.contract.picture_folders import Skipped

from . import tables
from .conditions import Where
from .entries import Entry, Label, id_bytes, id_text
from .filters import condition_of
from .pictures import PicturePlace, places_of
from .searched import SearchedIndex

if TYPE_CHECKING:
    import sqlite3


class IndexReader(SearchedIndex):
    """What an `Index` does without writing.

    Attributes: as of `Index`.
    """

    def get(self, name: str) -> Entry | None:
        """The entry with this id; None if there is none.

        Raises:
            IndexFileError: the index is damaged, or closed.
        """
        with self._reading() as (connection, _):
            (key,) = tables.keys_of(connection, [id_bytes(name)])
            if key is None:
                return None
            label = tables.labels_of(connection, [key], self._database.path)[key]
            return self._entries(connection, [(key, label)])[0]

    def count(self, where: Where | None = None) -> int:
        """The number of entries; with `where`, of those that fit (as in `search`)."""
        with self._reading() as (connection, facts):
            if where is None:
                return int(facts["count"])
            sql, values = condition_of(where)
            (number,) = connection.execute(f"SELECT count(*) FROM entries WHERE {sql}", values).fetchone()
            return int(number)

    def iterate(self, where: Where | None = None) -> Iterator[Entry]:
        """All entries, or those that fit, in the order in which they were added; none of those added meanwhile."""
        sql, values = condition_of({} if where is None else where)
        with self._reading() as (connection, _):
            for part in tables.all_labels(connection, self._database.path, sql, values):
                yield from self._entries(connection, part)

    def sample(self, most: int) -> list[Entry]:
        """At most `most` entries, evenly spaced in the order in which they were added: all, where they are fewer.

        Raises:
            ConfigError: `most` is below 1.
        """
        if most < 1:
            raise ConfigError(f"most={most} must be at least 1")
        with self._reading() as (connection, _):
            keys = [int(key) for (key,) in connection.execute("SELECT key FROM entries ORDER BY key")]
            places = np.linspace(0, len(keys) - 1, min(most, len(keys))).round().astype(np.int64)
            chosen = [keys[place] for place in places.tolist()]
            labels = tables.labels_of(connection, chosen, self._database.path)
            return self._entries(connection, [(key, labels[key]) for key in chosen])

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """What `build` left out, and why."""
        with self._reading() as (connection, _):
            rows = connection.execute("SELECT name, reason FROM left_out ORDER BY number").fetchall()
        return tuple(Skipped(id_text(name), id_text(reason)) for name, reason in rows)

    @property
    def pictures(self) -> tuple[PicturePlace, ...]:
        """Where the pictures are that the vectors are of, for `IndexPictures`; none: not known."""
        with self._reading() as (_, facts):
            return places_of(facts)

    @property
    def knows_sources(self) -> bool:
        """Whether it knows what its entries were made of, so that `migrate` can embed them again."""
        with self._reading() as (_, facts):
            return facts.get("sources") is not None

    def has_known_picture(self, name: str) -> bool:
        """Whether what `pictures` has under the id `name` is what this entry was made of.

        False where there is no such entry, where no place of pictures is known, and for an entry that `add` or
        `upsert` brought to an index that `build` made: of its id there may be another picture.

        Raises:
            IndexFileError: the index is damaged, or closed.
        """
        with self._reading() as (connection, facts):
            (key,) = tables.keys_of(connection, [id_bytes(name)])
            last_built = facts.get("last_built")
            return key is not None and places_of(facts) != () and (last_built is None or key <= int(last_built))

    def _entries(self, connection: sqlite3.Connection, part: list[tuple[int, Label]]) -> list[Entry]:
        keys = [key for key, _ in part]
        vectors = tables.vectors_of(connection, keys, self.dim, self._database.path)
        mapped = tables.mapped_among(connection, keys)
        return [
            Entry(id_text(label.id), label.decoded(), vector, key in mapped)
            for (key, label), vector in zip(part, vectors, strict=True)
        ]
