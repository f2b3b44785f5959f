"""Vectors of an index read by key from its segments, each compared with its sum. `n` keys, `D` embedding."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from protoclip.search.vectors import Array, Keys
from protoclip.search.view import View

# Vectors that are read before memory is given back: around each of them the system maps 64 KiB, or 2 MiB where it
# keeps a file in large pages. At a million entries that is a gigabyte.
_HELD = 384


@dataclass(frozen=True)
class _Block:
    """Vectors of consecutive keys; where none is missing their places are known without looking."""

    keys: Keys
    vectors: Array
    first: int
    is_whole: bool

    def places(self, keys: Keys) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
        """Where `keys` are, and which of them are there; None: all."""
        if self.is_whole:
            return keys - self.first, None
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return places, self.keys[places] == keys


class StoredVectors:
    """Those of one view."""

    def __init__(self, view: View) -> None:
        """`view`: its segments need not have been checked."""
        self._blocks = [
            _Block(one.keys, one.vectors, one.first, one.last - one.first + 1 == one.count)
            for one in view.segments
        ]
        keys, vectors = view.tail
        if len(keys):
            self._blocks.append(_Block(keys, vectors, int(keys[0]), int(keys[-1] - keys[0]) + 1 == len(keys)))
        self._first = np.array([block.first for block in self._blocks], dtype=np.int64)
        self._dim = view.tail[1].shape[1]
        self._segments = view.segments
        self._read_since = 0

    def count(self, last: int) -> int:
        """How many have a key up to `last`, removed ones that are still there among them."""
        return sum(
            len(block.keys) if int(block.keys[-1]) <= last else int(np.searchsorted(block.keys, last, "right"))
            for block in self._blocks
        )

    def keys(self, last: int) -> Keys:
        """These keys."""
        parts = [block.keys[: int(np.searchsorted(block.keys, last, "right"))] for block in self._blocks]
        return np.concatenate([np.zeros(0, np.int64), *parts])

    def read(self, keys: Keys) -> tuple[Array, NDArray[np.bool_]]:
        """The vectors `[n, D]` of `keys` `[n]`, ascending, and which of them are there."""
        vectors = np.empty((len(keys), self._dim), dtype=np.float32)
        there = np.ones(len(keys), dtype=np.bool_)
        of_block = np.searchsorted(self._first, keys, side="right") - 1
        there[of_block < 0] = False
        ends = np.flatnonzero(np.diff(of_block)) + 1
        for start, end in pairwise([0, *ends.tolist(), len(keys)]):
            if end == start or of_block[start] < 0:
                continue
            block = self._blocks[of_block[start]]
            places, found = block.places(keys[start:end])
            if found is not None:
                there[start:end] = found
            elif places[-1] >= len(block.keys):
                there[start:end] = places < len(block.keys)
                places = np.minimum(places, len(block.keys) - 1)
            np.take(block.vectors, places, axis=0, out=vectors[start:end], mode="clip")
        self._release(len(keys))
        return vectors, there

    def _release(self, num_read: int) -> None:
        """Keeps the memory below a bound: with each vector the system maps what is around it."""
        self._read_since += num_read
        if self._read_since >= _HELD:
            self._read_since = 0
            for segment in self._segments:
                segment.release()
