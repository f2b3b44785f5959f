"""How often the pairs of each source come in a turn. `N` pairs, `S` sources, `L` places in a turn.

A pair of a source of weight w comes ⌊w⌋ times in each turn; of what is left, a fraction f, each turn has the next
f of the source's pairs in a random order, the laps, so that all come before one comes again. Everything is a pure
function of (seed, turn, place).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .keyed_permutation import permuted


class WeightedSources:
    """The places of a turn before it is permuted: those of the first source, then those of the next.

    Args:
        sources: [N] the source of each pair, from 0 to S − 1.
        weights: [S], above 0; a source with a small one has at least one pair in each turn.
        seed: of the run.
    """

    def __init__(self, sources: NDArray[np.integer], weights: Sequence[float], seed: int) -> None:
        self.weights, self._seed = tuple(weights), seed
        self._pairs = np.argsort(sources, kind="stable")
        counts = np.bincount(sources, minlength=len(weights)).astype(np.int64)
        self._first_pairs = np.concatenate([[0], np.cumsum(counts)])
        self._whole = np.array([math.floor(weight) for weight in weights], dtype=np.int64)
        part = (np.array(weights) - self._whole) * counts
        self._drawn = np.where((part > 0) & (self._whole == 0), np.maximum(1, np.rint(part)), np.rint(part))
        self._drawn = self._drawn.astype(np.int64)
        self._first_places = np.concatenate([[0], np.cumsum(self._whole * counts + self._drawn)])
        self.pair_weights = np.array(weights, dtype=np.float64)[sources]

    @property
    def length(self) -> int:
        """L."""
        return int(self._first_places[-1])

    @property
    def most_in_turn(self) -> int:
        """How often a pair can come in one turn."""
        counts = np.diff(self._first_pairs)
        return max(
            # A turn that ends one lap and begins the next may draw a pair in both.
            int(whole) + (0 if not drawn else 1 if count % drawn == 0 else 2)
            for whole, drawn, count in zip(self._whole, self._drawn, counts, strict=True)
        )

    def at(self, turn: int, places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The pairs at the places [n] of a turn, and numbers of their visits, none twice of a pair: [n] both."""
        pairs, visits = np.empty_like(places), np.empty_like(places)
        found = np.searchsorted(self._first_places, places, side="right") - 1
        for source in np.unique(found).tolist():
            here = found == source
            own, visits[here] = self._of_source(source, turn, places[here] - self._first_places[source])
            pairs[here] = self._pairs[self._first_pairs[source] + own]
        return pairs, visits

    def _of_source(
        self, source: int, turn: int, places: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        count = int(self._first_pairs[source + 1] - self._first_pairs[source])
        whole, drawn = int(self._whole[source]), int(self._drawn[source])
        # Numbered with room for two drawn visits a turn, so that no number stands for two visits of a pair.
        each_turn = whole + (2 if drawn else 0)
        pairs, visits = places % count, turn * each_turn + places // count
        late = np.flatnonzero(places >= whole * count)
        stream = turn * drawn + places[late] - whole * count
        for lap in np.unique(stream // count).tolist():
            own = late[stream // count == lap]
            at = stream[stream // count == lap] % count
            pairs[own] = permuted(at, count, self._seed, f"weighted source {source}", lap)
            visits[own] = turn * each_turn + whole + lap - turn * drawn // count
        return pairs, visits
