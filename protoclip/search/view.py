"""What a search reads of one snapshot: segments, the vectors added since the last one, and the removed keys."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .nearest import Part
from .segments import Segment, listed
from .tables import Facts, removed_keys, vectors_between
from .vectors import Array, Keys

_KEPT_CONDITIONS = 4


class SegmentWarning(UserWarning):
    """A file of vectors is damaged or can't be written, so that searches read the database: slower, not wrong."""


@dataclass(frozen=True)
class View:
    """The vectors of one snapshot.

    Attributes:
        change: number of the last change in it.
        generation: how often all of the index was replaced by that of another build.
        removals: number of entries that were ever removed.
        removed: keys to pass over, in order.
        tail: keys and vectors behind the last segment.
    """

    change: int
    generation: int
    removals: int
    segments: tuple[Segment, ...]
    removed: Keys
    tail: tuple[Keys, Array]
    _matching: dict[bytes, Keys] = field(default_factory=dict, compare=False, repr=False)

    def matching(self, condition: bytes, find: Callable[[], Keys]) -> Keys:
        """The keys of the entries that fit a condition, by its digest: found once for all pages of a search."""
        known = self._matching.get(condition)
        if known is None:
            known = find()
            # A copy: other threads search meanwhile.
            for oldest in list(self._matching)[: 1 - _KEPT_CONDITIONS]:
                self._matching.pop(oldest, None)
            self._matching[condition] = known
        return known

    def parts(self, allowed: Keys | None = None, after: int = 0) -> Iterator[Part]:
        """All vectors, with those that count: of keys in `allowed`, in order, or else that aren't removed.

        `after`: of the keys behind this one alone. Segments of these must have been checked, by `check_segments`.
        """
        held = [(segment.keys, segment.vectors) for segment in self.segments if segment.last > after]
        for keys, vectors in (*held, self.tail):
            if after and len(keys):
                rows = slice(int(np.searchsorted(keys, after, side="right")), None)
                keys, vectors = keys[rows], vectors[rows]
            if len(keys):
                yield Part(keys, vectors, self._live(keys, allowed))

    def _live(self, keys: Keys, allowed: Keys | None) -> NDArray[np.bool_] | None:
        listed_keys = self.removed if allowed is None else allowed
        first, last = np.searchsorted(listed_keys, [keys[0], keys[-1] + 1])
        if allowed is None and first == last:
            return None
        places = np.searchsorted(keys, listed_keys[first:last])
        hit = places[keys[places] == listed_keys[first:last]]
        live = np.full(len(keys), allowed is None)
        live[hit] = allowed is not None
        return live


def load_view(
    connection: sqlite3.Connection, facts: Facts, folder: Path, place: Path, previous: View | None
) -> View:
    """The view of the connection's snapshot; takes from `previous`, an older one, what is still true.

    Raises:
        IndexFileError: a vector in the database is damaged; `place` is the file.
    """
    dim = int(facts["dim"])
    if previous is not None and previous.generation != facts["generation"]:
        previous = None
    known = {segment.name: segment for segment in previous.segments} if previous is not None else {}
    segments = tuple(known.get(segment.name, segment) for segment in listed(connection))
    for segment in segments:
        if segment.name not in known and not segment.map(folder, dim):
            _read_again(connection, segment, dim, folder, place)
    tail = _tail(connection, dim, place, segments, previous)
    same = previous is not None and previous.removals == facts["removals"] and previous.segments == segments
    removed = previous.removed if previous is not None and same else removed_keys(connection)
    return View(facts["change"], facts["generation"], facts["removals"], segments, removed, tail)


def check_segments(
    view: View, connection: sqlite3.Connection, folder: Path, dim: int, place: Path, after: int = 0
) -> None:
    """Compares the digests of segments with keys behind `after`, once, and reads damaged ones in the database.

    Raises:
        IndexFileError: as `load_view`.
    """
    for segment in view.segments:
        if segment.last > after and not segment.is_whole():
            _read_again(connection, segment, dim, folder, place)


def _tail(
    connection: sqlite3.Connection,
    dim: int,
    place: Path,
    segments: tuple[Segment, ...],
    previous: View | None,
) -> tuple[Keys, Array]:
    after = segments[-1].last if segments else 0
    held = (np.zeros(0, np.int64), np.zeros((0, dim), np.float32))
    if previous is not None and _last(previous.segments) == _last(segments) and len(previous.tail[0]):
        held = previous.tail
        after = int(held[0][-1])
    keys, vectors = vectors_between(connection, after, None, -1, dim, place)
    if not len(keys):
        return held
    return np.concatenate([held[0], keys]), np.concatenate([held[1], vectors])


def _last(segments: tuple[Segment, ...]) -> int:
    return segments[-1].last if segments else 0


def _read_again(connection: sqlite3.Connection, segment: Segment, dim: int, folder: Path, place: Path) -> None:
    segment.hold(*vectors_between(connection, segment.first - 1, segment.last, -1, dim, place))
    # Somebody may have compacted the index after this snapshot: then the file is gone for good reason.
    if (folder / segment.name).exists():
        message = "is damaged: its vectors were read from the database; `protoclip index compact` writes it again"
        warnings.warn(f"{folder / segment.name}: {message}", SegmentWarning, stacklevel=6)
