"""Who serves a repository: several servers may, and then none of them may change it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from protoclip.contract.errors import ConfigError, ModelError


def check_replaceable(repository: Path, names: Sequence[str]) -> None:
    """For whoever writes these models into a repository without any server.

    Raises:
        ConfigError: one of them is there, and a running server has the repository: it would load the new one.
    """
    there = [name for name in names if (repository / name).exists()]
    if not there:
        return
    try:
        handle = os.open(repository, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        # Whoever writes into it will say what is wrong.
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(
            f"{repository}: a running server has this repository, and would load another {there[0]} unproven: "
            "deploy a new export with `protoclip deploy`, stop the server first, or write elsewhere with --out"
        ) from None
    except OSError:
        # No locks here: servers are not seen.
        return
    finally:
        os.close(handle)


class SharedRepository:
    """One server's part in its repository, which may be read-only; given up by `close`.

    Where the file system knows no locks, other servers are not seen.
    """

    def __init__(self, folder: Path) -> None:
        """`folder` must be there.

        Raises:
            ConfigError: another server changes it just now.
            ModelError: it can't be opened.
        """
        self._folder = folder
        try:
            self._handle: int | None = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            reason = f"can't be opened ({error.strerror})" if folder.is_dir() else "no such folder"
            raise ModelError(f"{folder}: {reason}: write one with `protoclip repository ARTIFACT`") from error
        self._locks = True
        try:
            fcntl.flock(self._handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise ConfigError(
                f"{folder} is being changed by the `protoclip deploy` of another server: start again later"
            ) from None
        except OSError:
            self._locks = False

    @contextlib.contextmanager
    def changed(self) -> Iterator[None]:
        """The block changes the repository.

        Raises:
            ConfigError: another server serves it too, or could have changed it meanwhile.
        """
        if not self._locks or self._handle is None:
            yield
            return
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._share_again()
            raise ConfigError(
                f"{self._folder}: another server serves this repository too, and would lose what is changed: "
                "give each server a repository of its own, or end the other one"
            ) from None
        except OSError as error:
            raise ConfigError(
                f"{self._folder}: its file system can't lock it for a change ({error.strerror}): serve a "
                "repository on a local disk"
            ) from error
        try:
            yield
        finally:
            self._share_again()

    def close(self) -> None:
        if self._handle is not None:
            with contextlib.suppress(OSError):
                # Processes that were forked meanwhile hold the lock as well.
                fcntl.flock(self._handle, fcntl.LOCK_UN)
            os.close(self._handle)
            self._handle = None

    def _share_again(self) -> None:
        """Waits for another server's change, if need be: to change a lock may give it up for a moment."""
        if self._handle is None:
            return
        try:
            fcntl.flock(self._handle, fcntl.LOCK_SH)
        except OSError as error:
            raise ConfigError(
                f"{self._folder}: the lock that keeps other servers from changing it is lost ({error.strerror}): "
                "start this server again"
            ) from error
