"""Segments: vectors of consecutive keys in a file of their own, from which a search reads them by memory map.

They are copies of what the database holds: a missing or damaged one is read there, and made again by who writes
next. A segment never changes; entries that were removed since are passed over. `n` vectors, `D` embedding.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import ProtoclipError
from protoclip.contract.files import flush_folder

from .vectors import Array, Keys

_NAME = re.compile(r"segment-\d{16}-[0-9a-f]{16}\.vectors(\.new)?")
_BLOCK = 4096


@dataclass
class Segment:
    """Vectors `[n, D]` of `n` of the keys from `first` to `last`, as the table `segments` names them.

    Attributes:
        is_checked: whether all of `keys` and `vectors` are known to be what was written.
    """

    first: int
    last: int
    count: int
    digest: str
    keys: Keys = field(init=False, compare=False, repr=False)
    vectors: Array = field(init=False, compare=False, repr=False)
    is_checked: bool = field(init=False, compare=False, repr=False, default=False)
    _data: NDArray[np.uint8] = field(init=False, compare=False, repr=False)
    _pages: mmap.mmap | None = field(init=False, compare=False, repr=False, default=None)

    @property
    def name(self) -> str:
        """Of its file."""
        return f"segment-{self.first:016}-{self.digest}.vectors"

    def is_there(self, folder: Path, dim: int) -> bool:
        """Whether its file has the right length."""
        try:
            return (folder / self.name).stat().st_size == self._size(dim)
        except OSError:
            return False

    def load(self, folder: Path, dim: int) -> bool:
        """Maps the file and compares its digest; False where it is missing or isn't the one that was written."""
        return self.map(folder, dim) and self.is_whole()

    def map(self, folder: Path, dim: int) -> bool:
        """Maps the file, of which nothing is read; False where it is missing or has another length."""
        size = self._size(dim)
        try:
            if not self.is_there(folder, dim):
                return False
            with open(folder / self.name, "rb") as stream:
                self._pages = mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ)
        except (OSError, ValueError):
            return False
        data = np.frombuffer(self._pages, dtype=np.uint8)
        keys = data[: 8 * self.count].view("<i8")
        self.keys, self.vectors = np.asarray(keys), np.asarray(data[8 * self.count :].view("<f4").reshape(-1, dim))
        self._data, self.is_checked = data, False
        return True

    def release(self) -> None:
        """Gives back the memory of what was read of the file; what is read again comes from the system's cache."""
        if self._pages is not None:
            self._pages.madvise(mmap.MADV_DONTNEED)

    def is_whole(self) -> bool:
        """Whether what was mapped is what was written: reads all of it, once."""
        if not self.is_checked:
            self.is_checked = digest_of(self._data) == self.digest
        return self.is_checked

    def _size(self, dim: int) -> int:
        return self.count * (8 + 4 * dim)

    def hold(self, keys: Keys, vectors: Array) -> None:
        """Takes the vectors from an array."""
        self.keys, self.vectors, self.is_checked, self._pages = np.asarray(keys), np.asarray(vectors), True, None


def write_segment(folder: Path, keys: Keys, vectors: Array) -> Segment:
    """Writes a segment of keys `[n]`, in order, and their vectors `[n, D]`; it counts once the table names it.

    Raises:
        ProtoclipError: the disk is full, or the folder can't be written.
    """
    data = keys.astype("<i8").tobytes() + np.ascontiguousarray(vectors, dtype="<f4").tobytes()
    segment = Segment(int(keys[0]), int(keys[-1]), len(keys), digest_of(np.frombuffer(data, dtype=np.uint8)))
    path = folder / segment.name
    temporary = path.with_name(f"{path.name}.new")
    try:
        try:
            _write(temporary, data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        flush_folder(folder)
    except OSError as error:
        raise ProtoclipError(f"{path}: can't be written: {error.strerror or error}") from error
    return segment


def listed(connection: sqlite3.Connection) -> list[Segment]:
    """The segments that count, by their keys."""
    rows = connection.execute("SELECT first, last, count, digest FROM segments ORDER BY first")
    return [Segment(*row) for row in rows]


def enlist(connection: sqlite3.Connection, segment: Segment) -> None:
    """Has a segment count, from now on for all of its range of keys."""
    row = (segment.first, segment.last, segment.count, segment.digest)
    connection.execute("INSERT OR REPLACE INTO segments VALUES (?, ?, ?, ?)", row)
    connection.execute("DELETE FROM removed WHERE key BETWEEN ? AND ?", (segment.first, segment.last))


def is_segment_name(name: str) -> bool:
    """Whether a file of this name is a segment's."""
    return _NAME.fullmatch(name) is not None


def remove_unlisted(folder: Path, keep: list[Segment]) -> None:
    """Removes files of segments that don't count: a killed process left them, or others took their place."""
    names = {segment.name for segment in keep}
    for path in folder.iterdir():
        if is_segment_name(path.name) and path.name not in names:
            path.unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def digest_of(data: NDArray[np.uint8]) -> str:
    """SHA-256 of the sums of blocks: at the speed of memory, and no flipped, lost or moved block goes unseen.

    It finds damage; it does not withstand somebody who forges a file.
    """
    whole = len(data) // _BLOCK * _BLOCK
    sums = data[:whole].view("<u8").reshape(-1, _BLOCK // 8).sum(axis=1, dtype=np.uint64)
    return hashlib.sha256(sums.tobytes() + data[whole:].tobytes()).hexdigest()[:16]
