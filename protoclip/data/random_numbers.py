"""Counter-based random numbers, without global state.

A number is a pure function of (seed, stream, index, visit): the same on every rank, with any number of
workers, and after a resume. The mixing function is SplitMix64's finaliser (Steele, Lea and Flood,
"Fast splittable pseudorandom number generators", OOPSLA 2014).
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def uniforms(
    seed: int, stream: str, index: NDArray[np.int64], visit: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    """`count` uniform random numbers in [0, 1) for each of B items: `[B, count]`.

    Args:
        stream: what the numbers are for; different names are independent.
        index: [B], place of the item in the data.
        visit: [B], how often the item came before.
    """
    with np.errstate(over="ignore"):
        key = mixed(np.uint64(seed) ^ (np.uint64(zlib.crc32(stream.encode())) << np.uint64(32)))
        state = mixed(mixed(key + index.astype(np.uint64) * _GOLDEN) + visit.astype(np.uint64) * _GOLDEN)
        counters = (np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN)[None, :]
        bits = mixed(state[:, None] + counters)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def generator(seed: int, stream: str, number: int = 0) -> np.random.Generator:
    """A NumPy generator seeded by (seed, stream, number)."""
    return np.random.default_rng([seed, zlib.crc32(stream.encode()), number])


def torch_seed(seed: int, stream: str, number: int = 0) -> int:
    """A 63-bit seed for libraries that take an integer."""
    return int(generator(seed, stream, number).integers(0, 2**63 - 1))


def mixed(value: NDArray[np.uint64] | np.uint64) -> NDArray[np.uint64]:
    """SplitMix64's finaliser: 64 bits, each of which depends on all bits of `value`."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(value ^ (value >> np.uint64(31)))
