"""Connections to the SQLite file of an index: how it is opened, checked, and its errors in one line."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protoclip.contract.errors import IndexBusyError, IndexFileError, ProtoclipError

FORMAT = 2
APPLICATION_ID = 0x50434C49
BUSY_S = 10.0
_CACHE_KIB = 16384
# What a large call leaves of the write-ahead log while the index stays open.
_LOG_BYTES = 64 << 20
_TABLES = {"meta", "entries", "vectors", "removed", "segments", "left_out", "sqlite_sequence"}


class IndexConnection(sqlite3.Connection):
    """A connection to an index.

    Attributes:
        is_spent: it has prepared a large statement, and is closed after use: SQLite would keep megabytes of each.
    """

    is_spent = False


def connect(path: Path, use: str) -> IndexConnection:
    """A connection to "read" or to "write", with the file checked to be an index of this version.

    Raises:
        IndexFileError: it isn't. sqlite3.Error where the file can't be opened.
    """
    mode = mode_of(path, use)
    connection = sqlite3.connect(
        uri_of(path, mode),
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=BUSY_S,
        factory=IndexConnection,
    )
    try:
        # A file of strangers may hold triggers and views: none of them may call functions.
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        _check_kind(connection, path)
        if use == "read":
            connection.execute("PRAGMA query_only = ON")
        else:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
    except BaseException as error:
        connection.close()
        name = getattr(error, "sqlite_errorname", "")
        if mode == "ro" and name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")):
            raise IndexFileError(
                f"{path.parent}: its last changes lie in {path.name}-wal, which can't be read where the folder "
                "can't be written: run `protoclip index info` on it as a user who may write it"
            ) from error
        raise
    return connection


def uri_of(path: Path, mode: str) -> str:
    """The URI by which SQLite opens a file: `mode` is one of its own, or immutable."""
    return f"{path.absolute().as_uri()}?{'immutable=1' if mode == 'immutable' else f'mode={mode}'}"


def mode_of(path: Path, use: str) -> str:
    """How a file is opened to "read" or to "write".

    Readers share a file beside the database; where the folder can't be written, they can't make it.

    Then it is read as if nobody wrote, unless somebody's log is beside it.
    """
    if use == "write" or os.access(path.parent, os.W_OK):
        return "rw"
    logged, shared = (path.with_name(path.name + end) for end in ("-wal", "-shm"))
    try:
        return "ro" if logged.stat().st_size or shared.exists() else "immutable"
    except FileNotFoundError:
        return "immutable"


def state_of(path: Path) -> tuple[int, int, int] | None:
    """Which file it is, its size, and when it was changed; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def was_written(path: Path) -> IndexBusyError:
    """The error for a file that somebody wrote to while it was read, and that can't be locked."""
    return IndexBusyError(
        f"{path.parent}: was written to while it was read, and can't be locked by you: ask again"
    )


def _check_kind(connection: sqlite3.Connection, path: Path) -> None:
    (kind,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if kind != APPLICATION_ID:
        raise IndexFileError(f"{path}: is no index of ProtoCLIP: build the index again")
    if version != FORMAT:
        raise IndexFileError(f"{path}: has format {version}, and this version reads {FORMAT}: update ProtoCLIP")
    query = (
        "SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_autoindex%' "
        "AND NOT (type = 'table' AND name IN ('contents', 'mapped', 'relevance', 'tuning_queries'))"
    )
    found = {name for (name,) in connection.execute(query)}
    if found != _TABLES:
        raise IndexFileError(f"{path}: holds {min(found ^ _TABLES)!r}, or lacks it: build the index again")


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Makes one line of what SQLite raises."""
    try:
        yield
    except sqlite3.Error as error:
        raise _translated(path, error) from error


def _translated(path: Path, error: sqlite3.Error) -> ProtoclipError:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return IndexBusyError(f"{path.parent}: another process holds it: wait until it has ended, or end it")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR_READ", "SQLITE_IOERR_SHORT_READ")):
        return IndexFileError(f"{path}: damaged or changed since it was written ({error}): build the index again")
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return ProtoclipError(f"{path}: can't be written: {error}")
    # Of the statement, not of the file.
    return ProtoclipError(f"{path}: SQLite refused what was asked for: {error}")
