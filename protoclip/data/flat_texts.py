"""All texts of the data as one Arrow array, not a Python object each. `N` pairs, `M` texts, `U` distinct texts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protoclip.sources.columns import TextColumn

_BLOCK = 2**16


@dataclass(frozen=True)
class FlatTexts:
    """The texts of all pairs in their order.

    Attributes:
        values: [M], Arrow binary, each text in UTF-8.
        first: [N + 1], where the texts of each pair begin in `values`; the last is M.
    """

    values: Any
    first: NDArray[np.int64]

    def distinct(self) -> tuple[Any, NDArray[np.int32]]:
        """The distinct texts [U] in the order in which they first come, and the place [M] of each text in them."""
        encoded = self.values.dictionary_encode()
        return encoded.dictionary, encoded.indices.to_numpy()


def flat_texts(texts: Sequence[Sequence[str]]) -> FlatTexts:
    """The texts [N] of each pair, flat."""
    import pyarrow as pa

    counts, values = [np.zeros(1, dtype=np.int64)], [pa.array([], pa.large_binary())]
    for own_counts, own_values in _blocks(texts):
        counts.append(own_counts)
        values.append(own_values)
    return FlatTexts(pa.concat_arrays(values), np.cumsum(np.concatenate(counts)))


def digest_of(texts: Sequence[Sequence[str]]) -> tuple[str, int]:
    """A hexadecimal hash of 128 bits of the texts [N] of each pair, and M; holds few of them at a time."""
    hashes = [hashlib.blake2b() for _ in range(3)]
    num_texts = 0
    for counts, values in _blocks(texts):
        num_texts += len(values)
        _, offsets, data = values.buffers()
        ends = np.frombuffer(offsets, dtype=np.int64)[values.offset :][: len(values) + 1]
        hashes[0].update(counts.data)
        hashes[1].update(np.diff(ends).data)
        if ends[-1] > ends[0]:
            hashes[2].update(memoryview(data)[ends[0] : ends[-1]])
    return hashlib.blake2b(b"".join(part.digest() for part in hashes), digest_size=16).hexdigest(), num_texts


def strings(values: Any) -> list[str]:
    """Texts of an Arrow array in UTF-8."""
    return [value.decode("utf-8", "surrogatepass") for value in values.to_pylist()]


def _blocks(texts: Sequence[Sequence[str]]) -> Iterator[tuple[NDArray[np.int64], Any]]:
    """How many texts each of some pairs has, and these texts as Arrow binary."""
    if isinstance(texts, TextColumn):
        yield from ((counts, _as_binary(values)) for counts, values in texts.blocks())
        return
    pairs = iter(texts)
    while block := list(islice(pairs, _BLOCK)):
        yield np.array([len(own) for own in block]), _binary([text for own in block for text in own])


def _as_binary(values: Any) -> Any:
    import pyarrow as pa

    return values.cast(pa.large_string()).view(pa.large_binary())


def _binary(texts: list[str]) -> Any:
    import pyarrow as pa

    try:
        return pa.array(texts, pa.large_string()).view(pa.large_binary())
    except UnicodeEncodeError:
        # Half a surrogate pair: the tokenizer decides what becomes of it.
        return pa.array([text.encode("utf-8", "surrogatepass") for text in texts], pa.large_binary())
