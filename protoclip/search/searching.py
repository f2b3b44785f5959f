"""One search of a snapshot: which entries count, the nearest of them, and what is told of each."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from protoclip.client.results import Hit
from protoclip.contract.errors import ConfigError

from .conditions import Where
from .entries import Label, id_bytes, id_text
from .filters import ALL, condition_of
from .grouping import best_of_groups
from .nearest import Best, nearest
from .tables import keys_of, labels_of
from .vectors import Array, Keys
from .view import View


@dataclass(frozen=True)
class Wanted:
    """What is asked for besides the vectors; see `Index.search`."""

    k: int
    offset: int = 0
    where: Where | None = None
    group_by: str | None = None
    without: Sequence[str] = ()

    def check(self) -> None:
        """Raises ConfigError where a number doesn't fit, or what names a field or ids is none."""
        for name, number, least in (("k", self.k, 1), ("offset", self.offset, 0)):
            if isinstance(number, bool) or not isinstance(number, int | np.integer):
                raise ConfigError(f"{name}={number!r} must be a whole number")
            if number < least:
                raise ConfigError(f"{name}={number} must be at least {least}")
        if self.group_by is not None and not isinstance(self.group_by, str):
            raise ConfigError(f"group_by={self.group_by!r} must be the name of a field")
        if isinstance(self.without, str):
            raise ConfigError("without is a single id: give a list of them")


def find(
    connection: sqlite3.Connection, view: View, queries: Array, wanted: Wanted, place: Path
) -> list[list[Hit]]:
    """The hits of each of `queries` `[Q, D]`, best first; errors as `Index.search`."""
    allowed = _allowed(connection, view, wanted.where)
    without = {key for key in keys_of(connection, map(id_bytes, wanted.without)) if key is not None}
    search = _Search(connection, view, allowed, without, place)
    last = wanted.offset + wanted.k
    if wanted.group_by is None:
        hits = search.hits(queries, last)
    else:
        hits = [search.groups(query[np.newaxis], wanted.group_by, last) for query in queries]
    return [found[wanted.offset :] for found in hits]


def _allowed(connection: sqlite3.Connection, view: View, where: Where | None) -> Keys | None:
    """The keys of the entries that fit, in order; None where nothing is asked of them."""
    sql, values = ALL if where is None else condition_of(where)
    if (sql, values) == ALL:
        return None

    def find_keys() -> Keys:
        rows = connection.execute(f"SELECT key FROM entries WHERE {sql} ORDER BY key", values).fetchall()
        return np.fromiter((key for (key,) in rows), dtype=np.int64, count=len(rows))

    # With their types: 1 and 1.0 are equal, and "1" may stand where 1 does.
    return view.matching((sql, repr(values)), find_keys)


@dataclass(frozen=True)
class _Search:
    connection: sqlite3.Connection
    view: View
    allowed: Keys | None
    without: set[int]
    place: Path

    def hits(self, queries: Array, number: int) -> list[list[Hit]]:
        found = self._nearest(queries, number)
        labels = labels_of(self.connection, (int(key) for best in found for key in best.keys), self.place)
        return [
            [_hit(labels[int(key)], float(score)) for key, score in zip(best.keys, best.scores, strict=True)]
            for best in found
        ]

    def groups(self, query: Array, field: str, number: int) -> list[Hit]:
        return best_of_groups(lambda look: self.hits(query, look)[0], field, number)

    def _nearest(self, queries: Array, number: int) -> list[Best]:
        found = nearest(self.view.parts(self.allowed), queries, number + len(self.without))
        for best in found:
            kept = [row for row, key in enumerate(best.keys) if int(key) not in self.without][:number]
            best.keys, best.scores = best.keys[kept], best.scores[kept]
        return found


def _hit(label: Label, score: float) -> Hit:
    # The norm of a float32 vector is 1 but for rounding.
    return Hit(id_text(label.id), min(1.0, max(-1.0, score)), label.decoded())
