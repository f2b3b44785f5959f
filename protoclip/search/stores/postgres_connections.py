"""Connections to a PostgreSQL server: a pool, transactions, and its errors in one line."""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

from protoclip.contract.errors import (
    IndexBusyError,
    IndexFileError,
    ProtoclipError,
    StoreRefused,
    StoreUnavailable,
)

from .addresses import PostgresAddress

# Every error is raised too, and told by whoever catches it.
logging.getLogger("psycopg").setLevel(logging.CRITICAL)
LOCK_WAIT = "5s"
_CONNECT_S = 10
Connection = psycopg.Connection[tuple[object, ...]]


class Connections:
    """Connections to one database. May be shared between threads; a forked process opens its own."""

    def __init__(self, address: PostgresAddress) -> None:
        """Nothing is opened before the first use."""
        self._address = address
        self._lock = threading.Lock()
        self._closed = False
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._idle: list[Connection] = []

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A snapshot: all statements of the block see the same moment.

        Raises:
            StoreUnavailable: the server can't be reached, or ends the connection.
            IndexFileError: the index is not there, or closed.
            ProtoclipError: the server refuses a statement.
        """
        with self._transaction(psycopg.IsolationLevel.REPEATABLE_READ, read_only=True) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction: all of the block, or nothing after an error.

        Raises:
            IndexBusyError: somebody else has held these entries for 5 seconds. And as `reading`.
        """
        with self._transaction(psycopg.IsolationLevel.READ_COMMITTED, read_only=False) as connection:
            connection.execute("SELECT set_config('lock_timeout', %s, true)", (LOCK_WAIT,))
            yield connection

    def close(self) -> None:
        """Closes those that nobody uses; others are closed when they are given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        if self._pid == os.getpid():
            for connection in idle:
                connection.close()

    @contextmanager
    def _transaction(self, level: psycopg.IsolationLevel, *, read_only: bool) -> Iterator[Connection]:
        with postgres_errors(self._address.shown):
            connection = self._take()
            try:
                connection.isolation_level, connection.read_only = level, read_only
                with connection.transaction():
                    yield connection
            finally:
                self._give(connection)

    def _take(self) -> Connection:
        with self._lock:
            if self._closed:
                raise IndexFileError(f"{self._address.shown}: the index is closed: open it again")
            if self._pid != os.getpid():
                # The parent goes on with its connections, and would lose what is closed here.
                _KEPT.extend(self._idle)
                self._start()
            while self._idle:
                connection = self._idle.pop()
                if _is_alive(connection):
                    return connection
                connection.close()
        # Statements are not prepared: poolers of connections between here and the server may not keep them.
        wait = conninfo_to_dict(self._address.connection).get("connect_timeout") or _CONNECT_S
        return psycopg.connect(
            self._address.connection,
            autocommit=True,
            connect_timeout=int(wait),
            client_encoding="utf8",
            prepare_threshold=None,
        )

    def _give(self, connection: Connection) -> None:
        with self._lock:
            if not self._closed and not connection.closed and self._pid == os.getpid():
                self._idle.append(connection)
                return
        connection.close()


_KEPT: list[Connection] = []


def _is_alive(connection: Connection) -> bool:
    """False where the server has ended it: an idle connection has something to read only then."""
    if connection.closed:
        return False
    readable, _, _ = select.select([connection.fileno()], [], [], 0)
    return not readable


@contextmanager
def postgres_errors(place: str) -> Iterator[None]:
    """Turns PostgreSQL's errors into ours, of one line each; what it says of a connection shows no password."""
    try:
        yield
    except (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure) as error:
        raise IndexBusyError(f"{place}: somebody else writes these entries: try again") from error
    except (errors.UndefinedTable, errors.UndefinedColumn) as error:
        raise IndexFileError(f"{place}: no index is here: make one, or copy one here") from error
    except (errors.DiskFull, errors.OutOfMemory) as error:
        raise ProtoclipError(f"{place}: PostgreSQL has no room: {_line(error)}") from error
    except (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction) as error:
        raise StoreRefused(f"{place}: this user may not do that: {_line(error)}") from error
    except psycopg.OperationalError as error:
        if _is_about_password(error):
            raise StoreRefused(
                f"{place}: PostgreSQL refuses this user: {_line(error)}: check PGPASSWORD or ~/.pgpass"
            ) from error
        raise StoreUnavailable(f"{place}: PostgreSQL can't be reached: {_line(error)}") from error
    except psycopg.Error as error:
        raise ProtoclipError(f"{place}: PostgreSQL refused what was asked for: {_line(error)}") from error


def _is_about_password(error: psycopg.OperationalError) -> bool:
    """Whether the server, which was reached, got none or another one; its texts may be in any language."""
    failed = error.pgconn
    return failed is not None and (failed.needs_password or (failed.used_password and "password" in _line(error)))


def _line(error: psycopg.Error) -> str:
    lines = str(error).splitlines()
    return lines[0].strip() if lines else type(error).__name__
