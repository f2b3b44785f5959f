"""What an index holds and takes. `N` entries."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from . import tables
from .approximate.files import is_in_place
from .approximate.tuned import Tuning, is_due, read_record


@dataclass(frozen=True)
class IndexStats:
    """What an index holds and takes.

    Attributes:
        entries: N.
        removed: vectors of removed entries that searches still pass over; `compact` drops them.
        segments: files of vectors.
        tail: entries that are in none of them yet, and are read from the database.
        bytes: of all files.
        mapped: entries whose vectors an adapter made of those of another model.
        engine: "exact" where every search compares with every vector, or else how approximate ones are made.
        tuning: what the last tuning found: recall by kind of query, and when; None: the index wasn't tuned.
        later: entries that were added since then, which every search compares with.
        tuning_is_due: the index is large and was not tuned, or has doubled since, or its accelerator is gone.
    """

    entries: int
    removed: int
    segments: int
    tail: int
    bytes: int
    mapped: int = 0
    engine: str = "exact"
    tuning: Tuning | None = None
    later: int = 0
    tuning_is_due: bool = False


def stats_of(connection: sqlite3.Connection, facts: tables.Facts, folder: Path) -> IndexStats:
    """Of the connection's snapshot."""
    number, held = connection.execute("SELECT count(*), coalesce(sum(count), 0) FROM segments").fetchone()
    (last,) = connection.execute("SELECT coalesce(max(last), 0) FROM segments").fetchone()
    tail = _count_behind(connection, int(last))
    record = read_record(facts)
    file = None if record is None else record.file
    is_there = file is None or is_in_place(folder, file)
    return IndexStats(
        entries=int(facts["count"]),
        removed=int(held) + tail - int(facts["count"]),
        segments=int(number),
        tail=tail,
        bytes=sum(map(_size, folder.iterdir())),
        mapped=len(tables.mapped_keys(connection)),
        engine="exact" if record is None or file is None or not is_there else record.tuning.engine,
        tuning=None if record is None else record.tuning,
        later=0 if file is None else _count_behind(connection, file.last),
        tuning_is_due=is_due(facts) or not is_there,
    )


def _count_behind(connection: sqlite3.Connection, key: int) -> int:
    (number,) = connection.execute("SELECT count(*) FROM entries WHERE key > ?", (key,)).fetchone()
    return int(number)


def _size(path: Path) -> int:
    """Of a file that another process may remove at any time."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
