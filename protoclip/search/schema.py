"""The tables of an index, and all of another database's rows in place of theirs."""

from __future__ import annotations

import sqlite3

SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE entries (
    key INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, metadata TEXT NOT NULL,
    checksum INTEGER NOT NULL
);
CREATE TABLE vectors (key INTEGER PRIMARY KEY, vector BLOB NOT NULL, checksum INTEGER NOT NULL);
CREATE TABLE removed (key INTEGER PRIMARY KEY);
CREATE TABLE segments (
    first INTEGER PRIMARY KEY, last INTEGER NOT NULL, count INTEGER NOT NULL, digest TEXT NOT NULL
);
CREATE TABLE left_out (number INTEGER PRIMARY KEY, name BLOB NOT NULL, reason BLOB NOT NULL);
"""
# Only while it is built: the items that the vectors are of.
DRAFT_SCHEMA = "CREATE TABLE IF NOT EXISTS contents (key INTEGER PRIMARY KEY, digest BLOB NOT NULL)"
# Only where there are any: entries whose vectors were not made by the model, but mapped from those of another one.
MAPPED_SCHEMA = "CREATE TABLE IF NOT EXISTS mapped (key INTEGER PRIMARY KEY)"
# Only where it was calibrated: what that learned, by kind of query; no fact, as those are read by every search.
RELEVANCE_SCHEMA = "CREATE TABLE IF NOT EXISTS relevance (kind TEXT PRIMARY KEY, data BLOB NOT NULL)"
# Only where it was tuned with queries, some of which are kept: an accelerator is made of what the database holds.
TUNING_QUERIES_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS tuning_queries (build TEXT PRIMARY KEY, vectors BLOB NOT NULL, "
    "checksum INTEGER NOT NULL)"
)
# Keys are never used twice: those of the new entries come after all that were here.
_REPLACE = (
    "CREATE TEMP TABLE base AS SELECT coalesce(max(seq), 0) AS key FROM main.sqlite_sequence "
    "WHERE name = 'entries'",
    "DELETE FROM main.entries",
    "DELETE FROM main.vectors",
    "DELETE FROM main.removed",
    "DELETE FROM main.segments",
    "DELETE FROM main.left_out",
    "DROP TABLE IF EXISTS main.tuning_queries",
    "INSERT INTO main.entries SELECT made.entries.key + base.key, id, metadata, checksum "
    "FROM made.entries, base ORDER BY made.entries.key",
    "INSERT INTO main.vectors SELECT made.vectors.key + base.key, vector, checksum "
    "FROM made.vectors, base ORDER BY made.vectors.key",
    "INSERT INTO main.left_out SELECT * FROM made.left_out",
    "UPDATE main.meta SET value = value + (SELECT key FROM base) WHERE name = 'last_built'",
    "UPDATE main.meta SET value = value + 1 WHERE name = 'generation'",
)


def replace_all(connection: sqlite3.Connection) -> None:
    """Puts what the attached database `made` holds in place of all rows but those of `meta`."""
    for statement in _REPLACE:
        connection.execute(statement)
    _replace_mapped(connection)
    connection.execute("DROP TABLE base")


def _replace_mapped(connection: sqlite3.Connection) -> None:
    """What `_REPLACE` does, for a table that is there only where it has rows."""
    connection.execute("DROP TABLE IF EXISTS main.mapped")
    is_there = "SELECT 1 FROM made.sqlite_master WHERE name = 'mapped'"
    if connection.execute(is_there).fetchone() and connection.execute("SELECT 1 FROM made.mapped").fetchone():
        connection.execute(MAPPED_SCHEMA)
        connection.execute("INSERT INTO main.mapped SELECT made.mapped.key + base.key FROM made.mapped, base")
