"""The accelerator: short codes of the vectors in lists around centres, which say which vectors to look at.

An inverted file with product quantisation (Jégou, Douze and Schmid, 2011), whose codes of 4 bits are compared in
registers (André, Kermarrec and Le Scouarnec, 2015): `IndexIVFPQFastScan` of faiss. `N` entries in order of their
keys, `Q` queries, `D` embedding; all vectors of unit norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protoclip.search.vectors import Array, Keys

from .library import load_faiss

Rows = NDArray[np.int64]
Sums = NDArray[np.uint64]
_ENTRIES_PER_LIST = 512
_MAX_LISTS = 4096
SAMPLES_PER_LIST = 40
_ITERATIONS = 8


@dataclass
class Accelerator:
    """Codes of entries, and what tells queries like the entries from others.

    Attributes:
        keys: `[N]`, ascending.
        sums: `[N]`, by which a vector that is read later is known to be the one that was coded.
        direction: `[D]`; a query whose product with it is below `border` is not like the entries.
        index: faiss's, whose ids are places in `keys`.
        queries: `[Q, D]`, some of those that were given to tune with.
    """

    keys: Keys
    sums: Sums
    direction: Array
    border: float
    index: Any
    queries: Array

    @property
    def last(self) -> int:
        """The last key."""
        return int(self.keys[-1])

    @property
    def num_lists(self) -> int:
        """Of vectors."""
        return int(self.index.nlist)

    @property
    def engine(self) -> str:
        """In the words of faiss's index factory."""
        return f"IVF{self.num_lists},PQ{self.index.pq.M}x4fs"

    @cached_property
    def lists(self) -> NDArray[np.int64]:
        """The list `[N]` that each entry is in."""
        faiss = load_faiss()
        found = np.empty(len(self.keys), dtype=np.int64)
        stored = self.index.invlists
        for number in range(self.num_lists):
            size = stored.list_size(number)
            if size:
                found[faiss.rev_swig_ptr(stored.get_ids(number), size)] = number
        return found

    def list_order(self, queries: Array) -> NDArray[np.int64]:
        """The lists `[Q, lists]` in the order in which each query reads them."""
        order: NDArray[np.int64] = self.index.quantizer.search(queries, self.num_lists)[1]
        return order

    def list_ranks(self, queries: Array) -> NDArray[np.int64]:
        """How many lists `[Q, lists]` each query reads before each of them."""
        order = self.list_order(queries)
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.arange(self.num_lists)[np.newaxis], axis=1)
        return ranks

    def is_other(self, queries: Array) -> NDArray[np.bool_]:
        """Which of `queries` `[Q, D]` are not like the entries, `[Q]`."""
        return queries @ self.direction < self.border

    def candidates(self, queries: Array, number: int, probes: int, selector: Any = None) -> Rows:
        """Places `[Q, number]` of the entries with the best scores by their codes; -1 where there are fewer."""
        faiss = load_faiss()
        options = faiss.SearchParametersIVF(nprobe=min(probes, self.num_lists))
        if selector is not None:
            options.sel = selector
        number = min(number, len(self.keys))
        found: Rows = self.index.search(queries, number, params=options)[1]
        return found


def new_index(sample: Array, count: int) -> Any:
    """An empty index of faiss for `count` vectors, trained on `sample` `[n, D]`."""
    faiss = load_faiss()
    dim = sample.shape[1]
    quantizer = faiss.IndexFlatIP(dim)
    # Two bits for a component.
    codes = dim // 2 if dim % 2 == 0 else dim
    index = faiss.IndexIVFPQFastScan(quantizer, dim, num_lists(count), codes, 4, faiss.METRIC_INNER_PRODUCT)
    # In a narrow cone codes of the vectors themselves tell few neighbours apart: decision 0057.
    index.by_residual = True
    index.cp.niter = _ITERATIONS
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1
    index.train(sample)
    return index


def num_lists(count: int) -> int:
    """A power of two, for about 512 entries in each list."""
    return int(2 ** np.clip(np.round(np.log2(max(1, count / _ENTRIES_PER_LIST))), 0, np.log2(_MAX_LISTS)))


def sums_of(vectors: Array) -> Sums:
    """A sum `[n]` of the bits of each of `vectors` `[n, D]`; it finds damage, not forgery."""
    words = np.ascontiguousarray(vectors, dtype="<f4").view("<u4")
    if words.shape[1] % 2 == 0:
        return words.view("<u8").sum(axis=1, dtype=np.uint64)
    return words.sum(axis=1, dtype=np.uint64)


def selector_of(live: NDArray[np.bool_]) -> Any:
    """A selector of the places where `live` `[N]` is true, and what it must not outlive."""
    bits = np.packbits(live, bitorder="little")
    selector = load_faiss().IDSelectorBitmap(bits)
    selector.kept = bits
    return selector
