"""What an index of this machine knows beside its entries, as a copy on this machine takes it over."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any

from . import tables
from .approximate.kept_queries import keep_queries
from .schema import MAPPED_SCHEMA, RELEVANCE_SCHEMA
from .vectors import Array


@dataclass(frozen=True)
class CopiedFacts:
    """By ids, as keys are others in a copy.

    Attributes:
        sources: what the entries were made of, as `source_record` writes it.
        holds_for_all: whether that is so of whatever is added, too.
        added: ids of entries of which it is not so.
        adapter: what was measured of the adapter, as `adapter` writes it.
        mapped: ids of entries whose vectors the adapter made.
        left_out: the rows of the table `left_out`.
        queries: `[Q, D]`, kept of those that it was tuned with.
        relevance: the fact of a calibration, and the rows of its table; None and none: it has none.
    """

    sources: Any
    holds_for_all: bool
    added: frozenset[bytes]
    adapter: Any
    mapped: tuple[bytes, ...]
    left_out: tuple[tuple[Any, ...], ...]
    queries: Array
    relevance: tuple[Any, tuple[tuple[Any, ...], ...]] = (None, ())


def read_copied(connection: sqlite3.Connection, queries: Array) -> CopiedFacts:
    """Those of an index, with the queries that it keeps."""
    facts = tables.read_facts(connection)
    last = facts.get("last_built")
    added = connection.execute("SELECT id FROM entries WHERE key > ?", (last,)) if last is not None else ()
    keys = [(int(key),) for key in tables.mapped_keys(connection)]
    mapped = [connection.execute("SELECT id FROM entries WHERE key = ?", key).fetchone()[0] for key in keys]
    left_out = connection.execute("SELECT * FROM left_out ORDER BY number").fetchall()
    return CopiedFacts(
        facts.get("sources"),
        last is None,
        frozenset(name for (name,) in added),
        facts.get("adapter"),
        tuple(mapped),
        tuple(left_out),
        queries,
        _relevance(connection, facts),
    )


def write_copied(connection: sqlite3.Connection, copied: CopiedFacts) -> None:
    """Has an index with the same entries know the same."""
    tables.set_fact(connection, "sources", copied.sources)
    last = None
    if copied.sources is not None and not copied.holds_for_all:
        last = _last_before(connection, copied.added)
    tables.set_fact(connection, "last_built", last)
    tables.set_fact(connection, "pictures", None)
    tables.set_fact(connection, "adapter", copied.adapter)
    connection.execute("DROP TABLE IF EXISTS mapped")
    if copied.mapped:
        connection.execute(MAPPED_SCHEMA)
        names = [(name,) for name in copied.mapped]
        connection.executemany("INSERT INTO mapped SELECT key FROM entries WHERE id = ?", names)
    connection.execute("DROP TABLE IF EXISTS relevance")
    fact, rows = copied.relevance
    tables.set_fact(connection, "relevance", fact)
    if fact is not None:
        connection.execute(RELEVANCE_SCHEMA)
        connection.executemany("INSERT INTO relevance VALUES (?, ?)", rows)
    if len(copied.queries):
        keep_queries(connection, str(tables.read_facts(connection)["build"]), copied.queries)
    connection.execute("DELETE FROM left_out")
    connection.executemany("INSERT INTO left_out VALUES (?, ?, ?)", copied.left_out)


def _relevance(connection: sqlite3.Connection, facts: tables.Facts) -> tuple[Any, tuple[tuple[Any, ...], ...]]:
    fact = facts.get("relevance")
    return fact, () if fact is None else tuple(connection.execute("SELECT kind, data FROM relevance").fetchall())


def _last_before(connection: sqlite3.Connection, added: frozenset[bytes]) -> int:
    """The key up to which none of `added` is, which are the last ones where a copy was not interrupted."""
    last = 0
    for key, name in connection.execute("SELECT key, id FROM entries ORDER BY key"):
        if name in added:
            break
        last = key
    return last
