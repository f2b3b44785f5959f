"""The temporary folder of one server and its regions in /dev/shm; leftovers of killed owners are removed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

PREFIX = "protoclip-triton-"
LOCK_FILE = "owner.lock"
SHARED_MEMORY = Path("/dev/shm")


class TemporaryFolder:
    """A new temporary folder, locked as long as this process lives; folders of dead owners are removed first.

    Attributes:
        folder: the folder; its name needs no quoting in a shell.
        region_prefix: prefix of the names of this server's shared-memory regions.
    """

    def __init__(self) -> None:
        for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            _remove_if_abandoned(folder)
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self.region_prefix = f"{self.folder.name}-"
        # Locked before it gets its final name: another process must never find it unlocked.
        unnamed = self.folder / "new.lock"
        self._lock: IO[bytes] = open(unnamed, "wb")  # noqa: SIM115 - held for the object's life
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        unnamed.rename(self.folder / LOCK_FILE)
        # What only a server looks at seems old after days, and systemd-tmpfiles removes what is old in /tmp, but
        # nothing below a locked folder. Earlier versions of it lock as readers do: hence exclusively.
        self._folder_lock: int | None = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        with contextlib.suppress(OSError):
            fcntl.flock(self._folder_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def remove_regions(self) -> None:
        """Removes the regions of a server that has ended; the next one makes its own."""
        _remove_regions(self.folder)

    def remove(self) -> None:
        """Removes the folder and the regions; the server must have ended."""
        _remove(self.folder)
        self._lock.close()
        if self._folder_lock is not None:
            os.close(self._folder_lock)
            self._folder_lock = None


def _remove_if_abandoned(folder: Path) -> None:
    # The kernel releases the lock whenever its owner dies; unlike a process id this also works between
    # containers that share /tmp.
    with contextlib.suppress(OSError), open(folder / LOCK_FILE, "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(folder)


def _remove(folder: Path) -> None:
    _remove_regions(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _remove_regions(folder: Path) -> None:
    if SHARED_MEMORY.is_dir():
        for region in SHARED_MEMORY.glob(f"{folder.name}-*"):
            with contextlib.suppress(OSError):
                region.unlink()
