"""One process writes to an index at a time."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protoclip.contract.errors import IndexBusyError, ProtoclipError

LOCK_FILE = "writer.lock"
WAIT_S = 5.0
_PAUSE_S = 0.005


class WriterLock:
    """Held while an Index writes, by one thread of one process; the system frees it when the process dies.

    Of a migration, which leaves the index to others until its end, there is one with a `name` of its own.
    """

    def __init__(
        self, folder: Path, name: str = LOCK_FILE, what: str = "writes to it", wait_s: float | None = None
    ) -> None:
        self._path = folder / name
        self._what = what
        self._wait_s = wait_s
        self._thread_lock = threading.RLock()
        self._depth = 0
        self._pid = os.getpid()

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Holds the lock for the block; True where the block is the outermost one of this thread.

        Raises:
            IndexBusyError: another process has held it for 5 seconds, or another Index of this one.
            ProtoclipError: the folder can't be written.
        """
        if self._pid != os.getpid():
            self.__init__(self._path.parent, self._path.name, self._what, self._wait_s)  # type: ignore[misc]
        with self._thread_lock:
            handle = None if self._depth else self._locked()
            self._depth += 1
            try:
                yield handle is not None
            finally:
                self._depth -= 1
                if handle is not None:
                    # Not by closing alone: a process forked meanwhile has the file open too.
                    fcntl.flock(handle, fcntl.LOCK_UN)
                    os.close(handle)

    def _locked(self) -> int:
        handle = None
        try:
            handle = self._opened()
            self._wait(handle)
            while not self._is_current(handle):
                os.close(handle)
                handle = self._opened()
                self._wait(handle)
            os.pwrite(handle, f"{os.getpid():<20}".encode(), 0)
        except BaseException as error:
            if handle is not None:
                os.close(handle)
            if isinstance(error, OSError):
                raise ProtoclipError(f"{self._path.parent}: can't be written: {error.strerror}") from error
            raise
        return handle

    def _opened(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def _is_current(self, handle: int) -> bool:
        """Who held it before may have removed the file, with all of an index that wasn't to be."""
        try:
            return os.path.samestat(os.fstat(handle), os.stat(self._path))  # noqa: PTH116 - beside fstat
        except FileNotFoundError:
            return False

    def _wait(self, handle: int) -> None:
        end = time.monotonic() + (WAIT_S if self._wait_s is None else self._wait_s)
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    raise self._busy(handle) from None
                time.sleep(_PAUSE_S)
            else:
                return

    def _busy(self, handle: int) -> IndexBusyError:
        pid = os.pread(handle, 20, 0).decode("ascii", "replace").strip()
        who = "another Index of this process" if pid == str(os.getpid()) else f"process {pid or 'unknown'}"
        return IndexBusyError(f"{self._path.parent}: {who} {self._what}: wait until it has ended, or end it")
