"""Queries that were given to tune with, kept in the database for the next tuning. `Q` queries, `D` embedding."""

from __future__ import annotations

import sqlite3
import zlib

import numpy as np

from protoclip.contract.errors import IndexFileError
from protoclip.search.schema import TUNING_QUERIES_SCHEMA
from protoclip.search.vectors import Array

_STORED = np.dtype("<f4")


def keep_queries(connection: sqlite3.Connection, build: str, queries: Array) -> None:
    """Puts `queries` `[Q, D]` of a build of the index in place of earlier ones, in a transaction of the caller."""
    connection.execute(TUNING_QUERIES_SCHEMA)
    connection.execute("DELETE FROM tuning_queries")
    data = queries.astype(_STORED).tobytes()
    if data:
        connection.execute("INSERT INTO tuning_queries VALUES (?, ?, ?)", (build, data, zlib.crc32(data)))


def read_queries(connection: sqlite3.Connection, build: str, dim: int, place: object) -> Array:
    """Those of this build, `[Q, D]`; of another one, as of another model, or without any, none.

    Raises:
        IndexFileError: they aren't what was written; `place` is the file.
    """
    is_there = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'tuning_queries'").fetchone()
    row = None
    if is_there is not None:
        query = "SELECT vectors, checksum FROM tuning_queries WHERE build = ?"
        row = connection.execute(query, (build,)).fetchone()
    if row is None:
        return np.zeros((0, dim), np.float32)
    data, checksum = row
    if zlib.crc32(data) != checksum or len(data) % (dim * _STORED.itemsize):
        raise IndexFileError(
            f"{place}: the queries of its tuning are damaged or changed since they were written: give them again, "
            "`protoclip index tune --queries`"
        )
    return np.frombuffer(data, dtype=_STORED).astype(np.float32).reshape(-1, dim)
