"""Groups of entries that are nearly the same, each around one of them. `n` vectors, `D` embedding.

Entries are taken in the order in which they were added: each joins the nearest of the representatives before it,
if their cosine is at least the threshold, and becomes one itself otherwise. So every member is that near to its
representative, and no two representatives are. Connected components promise neither: a row of pictures of which
each is like the next may lead anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import ConfigError

from .nearest import Part
from .vectors import Array, Keys

_ROWS = 1024
_PART_ROWS = 16384
# Two vectors that are the same have a cosine of 1 but for the rounding of their components.
_SAME = 1 - 2.0**-21


@dataclass(frozen=True)
class Membership:
    """Of entries that aren't representatives: keys `[m]`, those of their representatives, and the cosines."""

    keys: Keys
    representatives: Keys
    cosines: NDArray[np.float64]


def checked_threshold(name: str, value: float) -> float:
    """The cosine from which on two entries are nearly the same; 1: the same but for rounding.

    Raises:
        ConfigError: it is no number above 0 and at most 1.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating) or not 0 < value <= 1:
        raise ConfigError(f"{name}={value!r} must be a cosine above 0, and at most 1")
    return min(float(value), _SAME)


def find_members(
    parts: Iterable[Part], threshold: float, progress: Callable[[int], None] = lambda done: None
) -> Membership:
    """Who belongs to whom, exactly: a cosine that may be the threshold in float32 is found again in float64.

    Memory: one block of 1,024 × 16,384 cosines, beside the vectors themselves.

    Args:
        parts: vectors of unit norm in the order of their keys.
        progress: called with the number of vectors that are done.
    """
    blocks = [block for part in parts for block in _blocks(part)]
    done = 0
    for number, block in enumerate(blocks):
        for start in range(0, len(block.keys), _ROWS):
            rows = slice(start, start + _ROWS)
            best = _Best(block.vectors(rows))
            for earlier in blocks[:number]:
                best.look(*earlier.representatives(), threshold)
            best.look(*block.representatives(start), threshold)
            block.settle(rows, best, threshold)
            done += len(best.vectors)
            progress(done)
    return Membership(
        np.concatenate([np.zeros(0, np.int64), *(block.keys[~block.leads] for block in blocks)]),
        np.concatenate([np.zeros(0, np.int64), *(block.owners[~block.leads] for block in blocks)]),
        np.concatenate([np.zeros(0), *(block.cosines[~block.leads] for block in blocks)]),
    )


class _Best:
    """The nearest representative so far of each of some vectors `[r, D]`: its key and the cosine."""

    def __init__(self, vectors: Array) -> None:
        self.vectors = vectors
        self.keys = np.full(len(vectors), -1, dtype=np.int64)
        self.cosines = np.full(len(vectors), -np.inf)

    def look(self, keys: Keys, others: Array, threshold: float) -> None:
        """Compares with representatives `[n, D]`, that come after those of before."""
        if not len(keys):
            return
        scores = self.vectors @ others.T
        largest = scores.max(axis=1)
        slack = _slack(others)
        for row in np.flatnonzero(largest >= np.maximum(threshold, self.cosines) - slack):
            near = np.flatnonzero(scores[row] >= largest[row] - 2 * slack)
            self.offer(int(row), keys[near], others[near])

    def offer(self, row: int, keys: Keys, others: Array) -> None:
        """Takes the nearest of a few, if it is nearer."""
        exact = (others.astype(np.float64) * self.vectors[row].astype(np.float64)).sum(axis=1)
        first = int(np.argmax(exact))
        if exact[first] > self.cosines[row]:
            self.keys[row], self.cosines[row] = keys[first], exact[first]


class _Block:
    """Vectors that were added one after the other, of which those of `live` count, and what is settled of them."""

    def __init__(self, keys: Keys, vectors: Array, live: NDArray[np.bool_] | None) -> None:
        # Vectors may be a mapped file: what counts of them is taken out anew each time.
        self._vectors = vectors
        self._rows = None if live is None or live.all() else np.flatnonzero(live)
        self.keys = keys if self._rows is None else keys[self._rows]
        self.leads = np.zeros(len(self.keys), dtype=np.bool_)
        self.owners = np.full(len(self.keys), -1, dtype=np.int64)
        self.cosines = np.zeros(len(self.keys))

    def vectors(self, chosen: slice | NDArray[np.int64]) -> Array:
        """Some of those that count."""
        return self._vectors[chosen if self._rows is None else self._rows[chosen]]

    def representatives(self, end: int | None = None) -> tuple[Keys, Array]:
        """Keys and vectors of those among the first `end`."""
        leads = self.leads[:end]
        chosen = slice(0, len(leads)) if leads.all() else np.flatnonzero(leads)
        return self.keys[chosen], self.vectors(chosen)

    def settle(self, rows: slice, best: _Best, threshold: float) -> None:
        """Settles some rows, whose nearest representatives before them are known; in order among themselves."""
        keys, vectors = self.keys[rows], best.vectors
        leads = best.cosines < threshold
        # Those before it alone.
        near = np.tril(vectors @ vectors.T >= threshold - _slack(vectors), -1)
        for row in np.flatnonzero(near.any(axis=1)):
            before = np.flatnonzero(near[row] & leads)
            if len(before):
                best.offer(int(row), keys[before], vectors[before])
                leads[row] = best.cosines[row] < threshold
        self.leads[rows], self.owners[rows], self.cosines[rows] = leads, best.keys, best.cosines


def _blocks(part: Part) -> Iterator[_Block]:
    for start in range(0, len(part.keys), _PART_ROWS):
        rows = slice(start, start + _PART_ROWS)
        live = None if part.live is None else part.live[rows]
        if live is None or live.any():
            yield _Block(part.keys[rows], part.vectors[rows], live)


def _slack(vectors: Array) -> float:
    """What a cosine in float32 may be wrong by."""
    return float((vectors.shape[1] + 2) * 2.0**-23)
