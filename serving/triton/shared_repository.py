"""Who serves a repository: several servers may, and then none of them may change it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from protoclip.contract.errors import ConfigError


class SharedRepository:
    """One server's part in its repository, which may be read-only; given up by `close`.

    Where the file system knows no locks, other servers are not seen.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._handle: int | None = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self._locks = _locked(self._handle, fcntl.LOCK_SH)

    @contextlib.contextmanager
    def changed(self) -> Iterator[None]:
        """The block changes the repository.

        Raises:
            ConfigError: another server serves it too.
        """
        if not self._locks or self._handle is None:
            yield
            return
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # A failed change of the lock may have given up the one that was held.
            _locked(self._handle, fcntl.LOCK_SH)
            raise ConfigError(
                f"{self._folder}: another server serves this repository too, and would lose what is changed: "
                "give each server a repository of its own, or end the other one"
            ) from None
        try:
            yield
        finally:
            _locked(self._handle, fcntl.LOCK_SH)

    def close(self) -> None:
        if self._handle is not None:
            with contextlib.suppress(OSError):
                # Processes that were forked meanwhile hold the lock as well.
                fcntl.flock(self._handle, fcntl.LOCK_UN)
            os.close(self._handle)
            self._handle = None


def _locked(handle: int, kind: int) -> bool:
    """Whether the lock is held; not where the file system has none, or another server changes the repository."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
