"""What tells whether an item is still the one that an earlier build embedded under its id."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from protoclip.contract.errors import ProtoclipError
from protoclip.sources.files import is_address
from protoclip.sources.listing import find_file
from protoclip.sources.stored import StoredPicture


class ItemContents:
    """Digests of items; of a file or archive they hold its absolute path, size and time of change."""

    def __init__(self) -> None:
        self._archives: dict[str, str | None] = {}

    def digest(self, item: Any) -> bytes | None:
        """16 bytes; None where it can't be told without reading the item: then it is embedded again.

        That is so of PIL images, open files, files that aren't there, and single objects in a store.
        """
        if isinstance(item, StoredPicture):
            return self._of_stored(item)
        if isinstance(item, str):
            return _digest("text", item.encode("utf-8", "surrogatepass"))
        if isinstance(item, os.PathLike):
            return _of_file(os.fspath(item))
        if isinstance(item, bytes | bytearray):
            return _digest("bytes", item)
        if isinstance(item, np.ndarray) and item.dtype.kind in "bui":
            return _digest(f"array {item.dtype} {item.shape}", np.ascontiguousarray(item).tobytes())
        return None

    def _of_stored(self, picture: StoredPicture) -> bytes | None:
        if picture.offset is None:
            return None
        if picture.address not in self._archives:
            self._archives[picture.address] = _state(picture.address)
        state = self._archives[picture.address]
        return None if state is None else _digest(f"{state} {picture.offset} {picture.size}", b"")


def _of_file(path: str | bytes) -> bytes | None:
    state = _state(os.fsdecode(path))
    return None if state is None else _digest(state, b"")


def _state(path: str) -> str | None:
    try:
        found = find_file(path)
    except (ProtoclipError, OSError, ValueError):
        return None
    if found is None or not found.changed:
        return None
    place = path if is_address(path) else os.fspath(Path(path).absolute())
    return f"{place} {found.size} {found.changed}"


def _digest(kind: str, data: bytes | bytearray) -> bytes:
    made = hashlib.blake2b(kind.encode("utf-8", "surrogatepass") + b"\0", digest_size=16)
    made.update(data)
    return made.digest()
