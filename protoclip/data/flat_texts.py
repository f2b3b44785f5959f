"""All texts of the data as one Arrow array, not a Python object each. `N` pairs, `M` texts, `U` distinct texts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CHUNK = 2**17


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

    def digest(self) -> str:
        """A hexadecimal hash of 128 bits of the texts and of which pair they belong to."""
        digest = hashlib.blake2b(self.first.tobytes(), digest_size=16)
        if len(self.values):
            _, offsets, data = self.values.buffers()
            ends = np.frombuffer(offsets, dtype=np.int64)[self.values.offset :][: len(self.values) + 1]
            digest.update((ends - ends[0]).tobytes())
            digest.update(memoryview(data)[ends[0] : ends[-1]])
        return digest.hexdigest()


def flat_texts(texts: Sequence[Sequence[str]]) -> FlatTexts:
    """The texts [N] of each pair, flat."""
    import pyarrow as pa

    first = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)), out=first[1:])
    chunks = [_binary(chunk) for chunk in _chunks(text for own in texts for text in own)]
    return FlatTexts(pa.concat_arrays(chunks) if chunks else pa.array([], pa.large_binary()), first)


def strings(values: Any) -> list[str]:
    """Texts of an Arrow array in UTF-8."""
    return [value.decode("utf-8", "surrogatepass") for value in values.to_pylist()]


def _chunks(items: Iterator[str]) -> Iterator[list[str]]:
    while chunk := list(islice(items, _CHUNK)):
        yield chunk


def _binary(texts: list[str]) -> Any:
    import pyarrow as pa

    try:
        return pa.array(texts, pa.large_string()).view(pa.large_binary())
    except UnicodeEncodeError:
        # Half a surrogate pair: the tokenizer decides what becomes of it.
        return pa.array([text.encode("utf-8", "surrogatepass") for text in texts], pa.large_binary())
