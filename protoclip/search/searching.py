"""One search of a snapshot: which entries count, the nearest of them, and what is told of each."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from protoclip.client.results import Hit
from protoclip.client.wanted import Wanted
from protoclip.contract.errors import ConfigError

from .conditions import Where
from .connections import IndexConnection
from .duplicates import checked_threshold
from .entries import Label, id_bytes, id_text
from .filters import ALL, condition_of
from .grouping import best_of_groups
from .nearest import Best
from .tables import keys_of, labels_of, vectors_of
from .vectors import Array, Keys
from .view import View


class Nearest(Protocol):
    """How the nearest vectors are found: exactly, or approximately."""

    def __call__(self, queries: Array, k: int, allowed: Keys | None, spare: int) -> list[Best]:
        """The `k + spare` nearest to each of `queries` `[Q, D]`, of keys in `allowed`, or all.

        `spare` of them the caller leaves out.
        """


Relevance: TypeAlias = Callable[[Array, Array, Array], NDArray[np.float64]]
"""Of a query `[D]`, its JUDGED nearest entries `[m, D]` and hits `[n, D]`: the probabilities `[n]` of these."""
JUDGED = 10
_LARGE_SQL = 16384
"""Characters of a statement; of a thousand conditions it has 320,000, and takes 3 MB in the connection's cache."""


def check_wanted(wanted: Wanted, without: Sequence[str]) -> None:
    """Raises ConfigError where a number doesn't fit, or what names a field or ids is none."""
    for name, number, least in (("k", wanted.k, 1), ("offset", wanted.offset, 0)):
        if isinstance(number, bool) or not isinstance(number, int | np.integer):
            raise ConfigError(f"{name}={number!r} must be a whole number")
        if number < least:
            raise ConfigError(f"{name}={number} must be at least {least}")
    if wanted.group_by is not None and not isinstance(wanted.group_by, str):
        raise ConfigError(f"group_by={wanted.group_by!r} must be the name of a field")
    if isinstance(without, str):
        raise ConfigError("without is a single id: give a list of them")
    if wanted.distinct is not None:
        checked_threshold("distinct", wanted.distinct)
    if wanted.min_relevance is not None and not _is_probability(wanted.min_relevance):
        raise ConfigError(
            f"min_relevance={wanted.min_relevance!r} (--min-relevance) must be a number from 0 to 1, such as 0.5"
        )


def _is_probability(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and 0 <= value <= 1


def find(
    connection: sqlite3.Connection,
    view: View,
    queries: Array,
    wanted: Wanted,
    without: Sequence[str],
    place: Path,
    nearest: Nearest,
    relevance: Relevance | None = None,
) -> list[list[Hit]]:
    """The hits of each of `queries` `[Q, D]`, best first; with `relevance`, those that are judged to be relevant.

    Errors as `Index.search`.
    """
    allowed = _allowed(connection, view, wanted.where)
    left_out = {key for key in keys_of(connection, map(id_bytes, without)) if key is not None}
    search = _Search(connection, nearest, allowed, left_out, place, queries.shape[1])
    judged = 0 if relevance is None else JUDGED
    if wanted.is_plain:
        near = search.hits(queries, max(wanted.last, judged))
        hits = [found[: wanted.last] for found in near]
    else:
        near = search.hits(queries, judged) if judged else []
        hits = [search.best(query[np.newaxis], wanted) for query in queries]
    pages = [found[wanted.offset :] for found in hits]
    if relevance is None:
        return pages
    least = wanted.min_relevance or 0.0
    return [
        search.relevant(query, page, one[:JUDGED], relevance, least)
        for query, page, one in zip(queries, pages, near, strict=True)
    ]


def _allowed(connection: sqlite3.Connection, view: View, where: Where | None) -> Keys | None:
    """The keys of the entries that fit, in order; None where nothing is asked of them."""
    sql, values = ALL if where is None else condition_of(where)
    if (sql, values) == ALL:
        return None

    def find_keys() -> Keys:
        if len(sql) > _LARGE_SQL and isinstance(connection, IndexConnection):
            connection.is_spent = True
        rows = connection.execute(f"SELECT key FROM entries WHERE {sql} ORDER BY key", values).fetchall()
        return np.fromiter((key for (key,) in rows), dtype=np.int64, count=len(rows))

    # With their types: 1 and 1.0 are equal, and "1" may stand where 1 does. Not as Python shows them: members of
    # an Enum show what they like. A digest: a list may have megabytes.
    asked = json.dumps([sql, values]).encode()
    return view.matching(hashlib.blake2b(asked, digest_size=16).digest(), find_keys)


@dataclass(frozen=True)
class _Search:
    connection: sqlite3.Connection
    nearest: Nearest
    allowed: Keys | None
    without: set[int]
    place: Path
    dim: int

    def hits(self, queries: Array, number: int) -> list[list[Hit]]:
        found = self._nearest(queries, number)
        labels = labels_of(self.connection, (int(key) for best in found for key in best.keys), self.place)
        return [
            [_hit(labels[int(key)], float(score)) for key, score in zip(best.keys, best.scores, strict=True)]
            for best in found
        ]

    def best(self, query: Array, wanted: Wanted) -> list[Hit]:
        return best_of_groups(lambda look: self.hits(query, look)[0], wanted, self._vectors)

    def relevant(
        self, query: Array, page: Sequence[Hit], near: Sequence[Hit], relevance: Relevance, least: float
    ) -> list[Hit]:
        """Those of a page whose relevance is `least` or more, with it; `near`: the nearest of all that count."""
        if not page:
            return []
        probable = relevance(query, self._rows_of(near), self._rows_of(page)).tolist()
        return [replace(hit, relevance=one) for hit, one in zip(page, probable, strict=True) if one >= least]

    def _vectors(self, names: Sequence[str]) -> Sequence[Array]:
        keys = [key for key in keys_of(self.connection, map(id_bytes, names)) if key is not None]
        return list(vectors_of(self.connection, keys, self.dim, self.place))

    def _rows_of(self, hits: Sequence[Hit]) -> Array:
        return np.stack(self._vectors([hit.id for hit in hits]))

    def _nearest(self, queries: Array, number: int) -> list[Best]:
        found = self.nearest(queries, number, self.allowed, len(self.without))
        for best in found:
            kept = [row for row, key in enumerate(best.keys) if int(key) not in self.without][:number]
            best.keys, best.scores = best.keys[kept], best.scores[kept]
        return found


def _hit(label: Label, score: float) -> Hit:
    # The norm of a float32 vector is 1 but for rounding.
    return Hit(id_text(label.id), min(1.0, max(-1.0, score)), label.decoded())
