"""Permutations of any length of which single places are computed, without making the rest. `N` the length.

A place is written as two digits, (left, right) in a grid of `a × b` cells with `a·b ≥ N`. A round adds a hash of
the one to the other and takes the remainder, which can be undone, so that all rounds together permute the cells: a
Feistel network over any two moduli (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002). A
place that lands on one of the few cells from N on goes through the rounds again until it lands below.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .random_numbers import generator, mixed

_ROUNDS = 8


def permuted(places: NDArray[np.int64], length: int, seed: int, stream: str, number: int = 0) -> NDArray[np.int64]:
    """Where a random permutation of 0 to `length` − 1 takes the given `places` [n]; takes O(n).

    Args:
        length: N; below 2^62.
        seed, stream, number: another permutation for each; see `random_numbers.generator`.
    """
    keys = generator(seed, stream, number).integers(2**64, size=_ROUNDS, dtype=np.uint64)
    left = math.isqrt(length - 1) + 1
    sides = np.uint64(left), np.uint64(-(-length // left))
    found = _through_rounds(places.astype(np.uint64), sides, keys)
    while (beyond := np.flatnonzero(found >= length)).size:
        found[beyond] = _through_rounds(found[beyond], sides, keys)
    return found.astype(np.int64)


def _through_rounds(
    cells: NDArray[np.uint64], sides: tuple[np.uint64, np.uint64], keys: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    digits = [cells // sides[1], cells % sides[1]]
    for number, key in enumerate(keys):
        own, other = number % 2, 1 - number % 2
        with np.errstate(over="ignore"):
            digits[own] = (digits[own] + mixed(digits[other] + key) % sides[own]) % sides[own]
    return digits[0] * sides[1] + digits[1]
