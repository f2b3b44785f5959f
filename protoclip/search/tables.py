"""What is read from and written to the tables of a database, in a transaction of the caller. `D` embedding."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from .entries import Label, is_twice
from .vectors import Array, Keys, from_rows, to_rows

_MANY = 500
Facts = dict[str, Any]


def read_facts(connection: sqlite3.Connection) -> Facts:
    """The table `meta`: model, fingerprint, dim, artifact, count, and counters of changes."""
    return dict(connection.execute("SELECT name, value FROM meta"))


def set_fact(connection: sqlite3.Connection, name: str, value: str | int | None) -> None:
    """Writes one of them."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


def count_up(connection: sqlite3.Connection, name: str, by: int) -> None:
    """Adds to one of them."""
    connection.execute("UPDATE meta SET value = value + ? WHERE name = ?", (by, name))


def insert(connection: sqlite3.Connection, labels: Sequence[Label], vectors: Array) -> None:
    """Adds entries under new keys.

    Raises:
        ConfigError: an id is there.
    """
    keys = []
    for label in labels:
        try:
            cursor = connection.execute(
                "INSERT INTO entries (id, metadata, checksum) VALUES (?, ?, ?)",
                (label.id, label.metadata, label.checksum),
            )
        except sqlite3.IntegrityError as error:
            raise is_twice(label.id) from error
        keys.append(cursor.lastrowid or 0)
    connection.executemany("INSERT INTO vectors VALUES (?, ?, ?)", to_rows(keys, vectors))
    count_up(connection, "count", len(keys))


def delete(connection: sqlite3.Connection, ids: Iterable[bytes]) -> int:
    """Removes the entries of these ids, and says how many there were."""
    keys = [key for key in (_key_of(connection, name) for name in ids) if key is not None]
    delete_keys(connection, keys)
    return len(keys)


def delete_keys(connection: sqlite3.Connection, keys: Sequence[int]) -> None:
    """Removes entries by their keys, each of which is there."""
    rows = [(key,) for key in keys]
    connection.executemany("DELETE FROM entries WHERE key = ?", rows)
    connection.executemany("DELETE FROM vectors WHERE key = ?", rows)
    connection.executemany("INSERT INTO removed VALUES (?)", rows)
    count_up(connection, "count", -len(rows))
    count_up(connection, "removals", len(rows))


def keys_of(connection: sqlite3.Connection, ids: Iterable[bytes]) -> list[int | None]:
    """The key of each id; None where there is no such entry."""
    return [_key_of(connection, name) for name in ids]


def labels_of(connection: sqlite3.Connection, keys: Iterable[int], place: object) -> dict[int, Label]:
    """Id and metadata by key.

    Raises:
        IndexFileError: one is damaged; `place` is the file.
    """
    wanted = list(dict.fromkeys(keys))
    found = {}
    for start in range(0, len(wanted), _MANY):
        part = wanted[start : start + _MANY]
        marks = ",".join("?" * len(part))
        query = f"SELECT key, id, metadata, checksum FROM entries WHERE key IN ({marks})"
        for key, name, metadata, checksum in connection.execute(query, part):
            label = Label(name, metadata)
            label.check(checksum, place)
            found[key] = label
    return found


def all_labels(
    connection: sqlite3.Connection, place: object, condition: str = "1", values: Sequence[Any] = ()
) -> Iterator[list[tuple[int, Label]]]:
    """Keys and labels of all entries for which `condition` holds, in the order of the keys, some at a time."""
    cursor = connection.execute(
        f"SELECT key, id, metadata, checksum FROM entries WHERE {condition} ORDER BY key", values
    )
    while rows := cursor.fetchmany(_MANY):
        part = []
        for key, name, metadata, checksum in rows:
            label = Label(name, metadata)
            label.check(checksum, place)
            part.append((key, label))
        yield part


def vectors_of(connection: sqlite3.Connection, keys: Sequence[int], dim: int, place: object) -> Array:
    """The vectors `[n, D]` of these keys, all of which are there, in their order; errors as `from_rows`."""
    rows = [
        connection.execute("SELECT key, vector, checksum FROM vectors WHERE key = ?", (key,)).fetchone()
        for key in keys
    ]
    return from_rows(rows, dim, place)[1]


def vectors_between(
    connection: sqlite3.Connection, after: int, last: int | None, limit: int, dim: int, place: object
) -> tuple[Keys, Array]:
    """Keys and vectors after one key up to another (None: all), at most `limit`; errors as `from_rows`."""
    query = "SELECT key, vector, checksum FROM vectors WHERE key > ? AND key <= ? ORDER BY key LIMIT ?"
    end = np.iinfo(np.int64).max if last is None else last
    return from_rows(connection.execute(query, (after, int(end), limit)).fetchall(), dim, place)


def all_keys(connection: sqlite3.Connection) -> Keys:
    """The keys of all entries, in order."""
    rows = connection.execute("SELECT key FROM entries ORDER BY key")
    return np.fromiter((key for (key,) in rows), dtype=np.int64)


def removed_keys(connection: sqlite3.Connection) -> Keys:
    """Keys whose vectors may still stand in a segment or in somebody's memory, in order."""
    rows = connection.execute("SELECT key FROM removed ORDER BY key").fetchall()
    return np.fromiter((key for (key,) in rows), dtype=np.int64, count=len(rows))


def mapped_keys(connection: sqlite3.Connection) -> Keys:
    """Keys of entries whose vectors an adapter made, in order."""
    if not _has_mapped(connection):
        return np.zeros(0, dtype=np.int64)
    rows = connection.execute("SELECT key FROM mapped WHERE key IN (SELECT key FROM entries) ORDER BY key")
    return np.fromiter((key for (key,) in rows), dtype=np.int64)


def mapped_among(connection: sqlite3.Connection, keys: Sequence[int]) -> set[int]:
    """Those of the keys whose vectors an adapter made."""
    if not _has_mapped(connection):
        return set()
    query = "SELECT 1 FROM mapped WHERE key = ?"
    return {key for key in keys if connection.execute(query, (key,)).fetchone() is not None}


def _has_mapped(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'mapped'").fetchone() is not None


def _key_of(connection: sqlite3.Connection, name: bytes) -> int | None:
    row = connection.execute("SELECT key FROM entries WHERE id = ?", (name,)).fetchone()
    return None if row is None else int(row[0])
