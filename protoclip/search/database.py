"""The SQLite file of an index: tables, and transactions over its connections.

One process writes at a time, any number read. A commit has reached the disk when it returns.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protoclip.contract.errors import IndexFileError, ProtoclipError

from .connections import (
    APPLICATION_ID,
    BUSY_S,
    FORMAT,
    IndexConnection,
    connect,
    mode_of,
    sqlite_errors,
    state_of,
    uri_of,
    was_written,
)
from .schema import SCHEMA, replace_all

# Seven vectors of 512 a page; SQLite's own 4096 would waste half of each.
_PAGE_BYTES = 16384


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
        self._idle: list[IndexConnection] = []
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
        if mode_of(self.path, "read") == "immutable":
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
            connection.execute(f"PRAGMA busy_timeout = {int(BUSY_S * 1000)}")

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
            self._writing_connection().execute("ATTACH ? AS made", (uri_of(made, "rw"),))
            try:
                with self.writing() as connection:
                    # Before the statements: one of them changes a fact.
                    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", facts.items())
                    replace_all(connection)
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
        before = state_of(self.path)
        try:
            with sqlite_errors(self.path):
                connection = connect(self.path, "read")
                try:
                    yield connection
                finally:
                    connection.close()
        except ProtoclipError as error:
            # What looks damaged may be half of the old and half of the new.
            if state_of(self.path) != before:
                raise was_written(self.path) from error
            raise
        if state_of(self.path) != before:
            raise was_written(self.path)

    def _take(self) -> IndexConnection:
        with self._lock:
            self._check_open()
            if self._idle:
                return self._idle.pop()
        return connect(self.path, "read")

    def _give(self, connection: IndexConnection) -> None:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        with self._lock:
            if self._closed or connection.is_spent:
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
        connection = sqlite3.connect(uri_of(path, "rwc"), uri=True, isolation_level=None)
        try:
            _prepare(connection)
            connection.executemany("INSERT INTO meta VALUES (?, ?)", facts.items())
        finally:
            connection.close()


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")
    connection.executescript(SCHEMA)
