"""Saved classes by name, read when they are first asked for, and again when their file was replaced."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from protoclip.client import ClassBank
from protoclip.contract.errors import ModelError

from .errors import not_found

Place = tuple[int, int, int]


class ClassBanks:
    """Files of `protoclip classes build`."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        """`paths` by name; nothing is read yet."""
        self._paths = dict(paths)
        self._read: dict[str, tuple[Place, ClassBank]] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._paths)

    def get(self, name: str) -> ClassBank:
        """The classes; reads a file, so not in the event loop.

        Raises:
            Refused: 404, none has this name.
            ModelError: no such file, or a damaged one.
        """
        path = self._paths.get(name)
        if path is None:
            raise not_found("classes_not_found", f"no classes are called {name[:64]!r}: /classes lists them")
        try:
            found = path.stat()
        except OSError as error:
            raise ModelError(f"{path}: can't be read: {error.strerror}") from error
        place = (found.st_ino, found.st_size, found.st_mtime_ns)
        with self._lock:
            known = self._read.get(name)
        if known is not None and known[0] == place:
            return known[1]
        bank = ClassBank.open(path)
        with self._lock:
            self._read[name] = (place, bank)
        return bank
