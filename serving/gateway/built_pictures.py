"""Pictures of indexes from where each says that it was built from: for indexes that the operator made."""

from __future__ import annotations

import threading
import time

from protoclip.contract.errors import ProtoclipError
from protoclip.search import Index, IndexPictures, PicturePlace

from .errors import not_found

_RETRY_S = 30.0


class BuiltPictures:
    """Reads an index's list of pictures when one is first asked for, and again when the index was built anew."""

    def __init__(self) -> None:
        self._read: dict[str, tuple[tuple[PicturePlace, ...], IndexPictures | None, float]] = {}
        self._locks: dict[str, threading.Lock] = {}

    def bytes_of(self, name: str, index: Index, entry: str) -> bytes:
        """The picture file of an entry of the index called `name`.

        Raises:
            Refused: 404, the index does not say where its pictures are, or it is not there any more.
        """
        pictures = self._pictures(name, index)
        try:
            if pictures is not None:
                return pictures.read(entry)
        except ProtoclipError:
            pass
        raise not_found("picture_not_found", "there is no picture to show for this entry")

    def _pictures(self, name: str, index: Index) -> IndexPictures | None:
        places = index.pictures
        if not places:
            return None
        with self._locks.setdefault(name, threading.Lock()):
            known = self._read.get(name)
            now_s = time.monotonic()
            if known is not None and known[0] == places and (known[1] is not None or now_s - known[2] < _RETRY_S):
                return known[1]
            try:
                found = IndexPictures(places)
            except ProtoclipError:
                # A page asks for many at once, and a large table is not read for each of them.
                found = None
            self._read[name] = (places, found, now_s)
            return found
