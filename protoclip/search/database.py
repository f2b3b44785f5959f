"""The SQLite file of an index: tables, connections, transactions, and its errors in one line.

One process writes at a time, any number read. A commit has reached the disk when it returns.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protoclip.contract.errors import IndexBusyError, IndexFileError, ProtoclipError

FORMAT = 2
_APPLICATION_ID = 0x50434C49
_BUSY_S = 10.0
# Seven vectors of 512 a page; SQLite's own 4096 would waste half of each.
_PAGE_BYTES = 16384
_CACHE_KIB = 16384
# What a large call leaves of the write-ahead log while the index stays open.
_LOG_BYTES = 64 << 20

_SCHEMA = """
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
# Keys are never used twice: those of the new entries come after all that were here.
_REPLACE = (
    "CREATE TEMP TABLE base AS SELECT coalesce(max(seq), 0) AS key FROM main.sqlite_sequence "
    "WHERE name = 'entries'",
    "DELETE FROM main.entries",
    "DELETE FROM main.vectors",
    "DELETE FROM main.removed",
    "DELETE FROM main.segments",
    "DELETE FROM main.left_out",
    "INSERT INTO main.entries SELECT made.entries.key + base.key, id, metadata, checksum "
    "FROM made.entries, base ORDER BY made.entries.key",
    "INSERT INTO main.vectors SELECT made.vectors.key + base.key, vector, checksum "
    "FROM made.vectors, base ORDER BY made.vectors.key",
    "INSERT INTO main.left_out SELECT * FROM made.left_out",
    "UPDATE main.meta SET value = value + (SELECT key FROM base) WHERE name = 'last_built'",
    "UPDATE main.meta SET value = value + 1 WHERE name = 'generation'",
)
_TABLES = {"meta", "entries", "vectors", "removed", "segments", "left_out", "sqlite_sequence"}


class Database:
    """Connections to one file: a pool of readers, and one that writes.

    May be shared between threads, and goes on in a forked process with connections of its own.
    """

    def __init__(self, path: Path) -> None:
        """`path` is a file that `create_database` made. Nothing is opened before the first use."""
        self.path = path
        self._lock = threading.RLock()
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._idle: list[sqlite3.Connection] = []
        self._writer: sqlite3.Connection | None = None
        self._closed = False

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One snapshot: what others commit meanwhile is not seen.

        Raises:
            IndexFileError: the file is damaged or no index, or the index is closed.
            IndexBusyError: the folder can't be written, and the file was while it was read.
        """
        self._renew_after_fork()
        if _mode(self.path, "read") == "immutable":
            with self._reading_unlocked() as connection:
                yield connection
            return
        with sqlite_errors(self.path):
            connection = self._take()
            try:
                connection.execute("BEGIN")
                yield connection
            finally:
                self._give(connection)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it is on the disk at the end of the block, or nothing after an error.

        Raises:
            ProtoclipError: the disk is full, or the file can't be written.
            IndexFileError: as `reading`; IndexBusyError where another process holds the file.
        """
        self._renew_after_fork()
        with self._lock, sqlite_errors(self.path):
            connection = self._writing_connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("UPDATE meta SET value = value + 1 WHERE name = 'change'")
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def compact(self) -> None:
        """Gives the space of removed rows back to the file system; errors as `writing`."""
        with self._lock, sqlite_errors(self.path):
            connection = self._writing_connection()
            connection.execute("VACUUM")
            # Not where somebody reads: then it is done when the last one closes.
            connection.execute("PRAGMA busy_timeout = 0")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute(f"PRAGMA busy_timeout = {int(_BUSY_S * 1000)}")

    def settle(self) -> None:
        """Has all of it in the one file, and closes it: then it may be renamed. Errors as `writing`."""
        with self._lock, sqlite_errors(self.path):
            self._writing_connection()
            for connection in self._idle:
                connection.close()
            self._idle = []
            self._writing_connection().execute("PRAGMA journal_mode = DELETE")
        self.close()

    def replace(self, made: Path, facts: dict[str, str | int | None]) -> None:
        """Puts what a settled database holds in place of all that is here, and `facts` into meta, at once.

        Raises:
            ProtoclipError: as `writing`.
        """
        with self._lock, sqlite_errors(self.path):
            self._writing_connection().execute("ATTACH ? AS made", (_uri(made, "rw"),))
            try:
                with self.writing() as connection:
                    # Before the statements: one of them changes a fact.
                    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", facts.items())
                    for statement in _REPLACE:
                        connection.execute(statement)
                    _replace_mapped(connection)
                    connection.execute("DROP TABLE base")
            finally:
                self._writing_connection().execute("DETACH made")

    def close(self) -> None:
        """Closes all connections; those in use, at the end of their block. May be called twice."""
        self._renew_after_fork()
        with self._lock:
            self._closed = True
            for connection in (*self._idle, *([] if self._writer is None else [self._writer])):
                connection.close()
            self._idle, self._writer = [], None

    @contextmanager
    def _reading_unlocked(self) -> Iterator[sqlite3.Connection]:
        """Of a file that can't be locked: opened each time, as SQLite never looks again, and if nobody writes."""
        with self._lock:
            self._check_open()
        before = _state(self.path)
        try:
            with sqlite_errors(self.path):
                connection = connect(self.path, "read")
                try:
                    yield connection
                finally:
                    connection.close()
        except ProtoclipError as error:
            # What looks damaged may be half of the old and half of the new.
            if _state(self.path) != before:
                raise _was_written(self.path) from error
            raise
        if _state(self.path) != before:
            raise _was_written(self.path)

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            self._check_open()
            if self._idle:
                return self._idle.pop()
        return connect(self.path, "read")

    def _give(self, connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        with self._lock:
            if self._closed:
                connection.close()
            else:
                self._idle.append(connection)

    def _writing_connection(self) -> sqlite3.Connection:
        self._check_open()
        if self._writer is None:
            self._writer = connect(self.path, "write")
        return self._writer

    def _check_open(self) -> None:
        if self._closed:
            raise IndexFileError(f"{self.path.parent}: the index is closed: open it again")

    def _renew_after_fork(self) -> None:
        if self._pid != os.getpid():
            # Connections may not be used in a forked process, nor closed: both have the parent's file in hand.
            _KEPT.extend((*self._idle, *([] if self._writer is None else [self._writer])))
            self._lock = threading.RLock()
            self._start()


_KEPT: list[sqlite3.Connection] = []


class TemporaryDatabase(Database):
    """A database that is gone when it is closed, or the process ends; one thread reads at a time."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        # An empty name is a file that SQLite removes at once, and that only grows where memory doesn't do.
        self._writer = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        _prepare(self._writer)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """As `Database.reading`."""
        with self._lock, sqlite_errors(self.path):
            self._check_open()
            assert self._writer is not None
            yield self._writer


def create_database(path: Path, facts: dict[str, str | int | None]) -> None:
    """Makes an empty database with `facts` as its meta table.

    Raises:
        ProtoclipError: it can't be written.
    """
    with sqlite_errors(path):
        connection = sqlite3.connect(_uri(path, "rwc"), uri=True, isolation_level=None)
        try:
            _prepare(connection)
            connection.executemany("INSERT INTO meta VALUES (?, ?)", facts.items())
        finally:
            connection.close()


def connect(path: Path, use: str) -> sqlite3.Connection:
    """A connection to "read" or to "write", with the file checked to be an index of this version.

    Raises:
        IndexFileError: it isn't. sqlite3.Error where the file can't be opened.
    """
    mode = _mode(path, use)
    connection = sqlite3.connect(
        _uri(path, mode), uri=True, isolation_level=None, check_same_thread=False, timeout=_BUSY_S
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


def _replace_mapped(connection: sqlite3.Connection) -> None:
    """What `_REPLACE` does, for a table that is there only where it has rows."""
    connection.execute("DROP TABLE IF EXISTS main.mapped")
    is_there = "SELECT 1 FROM made.sqlite_master WHERE name = 'mapped'"
    if connection.execute(is_there).fetchone() and connection.execute("SELECT 1 FROM made.mapped").fetchone():
        connection.execute(MAPPED_SCHEMA)
        connection.execute("INSERT INTO main.mapped SELECT made.mapped.key + base.key FROM made.mapped, base")


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")
    connection.executescript(_SCHEMA)


def _uri(path: Path, mode: str) -> str:
    return f"{path.absolute().as_uri()}?{'immutable=1' if mode == 'immutable' else f'mode={mode}'}"


def _mode(path: Path, use: str) -> str:
    """Readers share a file beside the database; where the folder can't be written, they can't make it.

    Then it is read as if nobody wrote, unless somebody's log is beside it.
    """
    if use == "write" or os.access(path.parent, os.W_OK):
        return "rw"
    logged, shared = (path.with_name(path.name + end) for end in ("-wal", "-shm"))
    try:
        return "ro" if logged.stat().st_size or shared.exists() else "immutable"
    except FileNotFoundError:
        return "immutable"


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _was_written(path: Path) -> IndexBusyError:
    return IndexBusyError(
        f"{path.parent}: was written to while it was read, and can't be locked by you: ask again"
    )


def _check_kind(connection: sqlite3.Connection, path: Path) -> None:
    (kind,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if kind != _APPLICATION_ID:
        raise IndexFileError(f"{path}: is no index of ProtoCLIP: build the index again")
    if version != FORMAT:
        raise IndexFileError(f"{path}: has format {version}, and this version reads {FORMAT}: update ProtoCLIP")
    query = (
        "SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_autoindex%' "
        "AND NOT (type = 'table' AND name IN ('contents', 'mapped'))"
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
