"""What a writer does beside writing: segments of what was added, and what killed processes left."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from .approximate.tuning import remove_ended_tuning
from .database import Database
from .migration_state import remove_ended_migration
from .places import BUILDING_FILE, NEW_FILE, OLD_FILES, remove_database
from .segments import Segment, enlist, listed, remove_unlisted, write_segment
from .tables import read_facts, vectors_between

SEGMENT_ROWS = 16384
MAX_ROWS = 65536


def tidy(folder: Path, database: Database, dim: int) -> None:
    """Removes what killed processes left, and writes missing segments again. The caller holds the lock."""
    with database.reading() as connection:
        segments = listed(connection)
        build = read_facts(connection)["build"]
        remove_ended_tuning(folder, connection)
    remove_unlisted(folder, segments)
    remove_database(folder / NEW_FILE)
    remove_ended_migration(folder, str(build))
    for name in OLD_FILES:
        (folder / name).unlink(missing_ok=True)
    if (folder / BUILDING_FILE).exists() and _build_of(folder / BUILDING_FILE) == build:
        remove_database(folder / BUILDING_FILE)
    for segment in segments:
        if not segment.is_there(folder, dim):
            _rewrite(folder, database, dim, [segment])


def make_segments(folder: Path, database: Database, dim: int) -> None:
    """Writes segments of what was added since the last one, where it is enough. The caller holds the lock."""
    while True:
        with database.reading() as connection:
            after = _last_segment(connection)
            if not _has_many(connection, after):
                return
            keys, vectors = vectors_between(connection, after, None, MAX_ROWS, dim, database.path)
        segment = write_segment(folder, keys, vectors)
        with database.writing() as connection:
            enlist(connection, segment)


def compact(folder: Path, database: Database, dim: int) -> None:
    """Makes as few segments as there can be, without removed entries and damaged ones, and frees space."""
    with database.reading() as connection:
        runs: list[list[Segment]] = []
        size = 0
        for segment in listed(connection):
            live = segment.count - _removed_in(connection, segment)
            if not runs or size + live > MAX_ROWS:
                runs.append([])
                size = 0
            runs[-1].append(segment)
            size += live
        done = [run for run in runs if len(run) == 1 and not _removed_in(connection, run[0])]
    for run in runs:
        if run not in done or not run[0].load(folder, dim):
            _rewrite(folder, database, dim, run)
    database.compact()
    with database.reading() as connection:
        remove_unlisted(folder, listed(connection))


def _rewrite(folder: Path, database: Database, dim: int, run: Iterable[Segment]) -> None:
    """Puts one segment in place of a run of them."""
    old = list(run)
    with database.reading() as connection:
        keys, vectors = vectors_between(connection, old[0].first - 1, old[-1].last, -1, dim, database.path)
    made = write_segment(folder, keys, vectors) if len(keys) else None
    with database.writing() as connection:
        connection.executemany("DELETE FROM segments WHERE first = ?", [(one.first,) for one in old])
        connection.execute("DELETE FROM removed WHERE key BETWEEN ? AND ?", (old[0].first, old[-1].last))
        if made is not None:
            enlist(connection, made)


def _last_segment(connection: sqlite3.Connection) -> int:
    (last,) = connection.execute("SELECT coalesce(max(last), 0) FROM segments").fetchone()
    return int(last)


def _has_many(connection: sqlite3.Connection, after: int) -> bool:
    (last,) = connection.execute("SELECT coalesce(max(key), 0) FROM entries").fetchone()
    if last - after < SEGMENT_ROWS:
        return False
    query = "SELECT count(*) FROM (SELECT 1 FROM entries WHERE key > ? LIMIT ?)"
    (count,) = connection.execute(query, (after, SEGMENT_ROWS)).fetchone()
    return bool(count == SEGMENT_ROWS)


def _removed_in(connection: sqlite3.Connection, segment: Segment) -> int:
    query = "SELECT count(*) FROM removed WHERE key BETWEEN ? AND ?"
    (count,) = connection.execute(query, (segment.first, segment.last)).fetchone()
    return int(count)


def _build_of(path: Path) -> object:
    database = Database(path)
    try:
        with database.reading() as connection:
            return read_facts(connection)["build"]
    finally:
        database.close()
