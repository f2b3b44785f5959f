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
from .threads import in_threads, num_threads

Rows = NDArray[np.int64]
Sums = NDArray[np.uint64]
_ENTRIES_PER_LIST = 512
_MAX_LISTS = 4096
SAMPLES_PER_LIST = 40
_ITERATIONS = 8
# Fewer are read before another thread has begun.
_CODES_PER_THREAD = 16384


@dataclass
class Accelerator:
    """Codes of entries, and what tells queries like the entries from others.

    Attributes:
        keys: `[N]`, ascending.
        sums: `[N]`, by which a vector that is read later is known to be the one that was coded.
        direction: `[D]`; a query whose product with it is below `border` is not like the entries.
        index: faiss's, whose ids are places in `keys`.
        queries: `[Q, D]`, some of those that were given to tune with, in a file of an earlier version; the
            database has them now.
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

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """How many entries are in each list, `[lists]`."""
        found: NDArray[np.int64] = np.bincount(self.lists, minlength=self.num_lists)
        return found

    @cached_property
    def centres(self) -> Array:
        """Those of the lists, `[lists, D]`."""
        found: Array = self.index.quantizer.reconstruct_n(0, self.num_lists)
        return found

    def list_order(self, queries: Array) -> NDArray[np.int64]:
        """The lists `[Q, lists]` in the order in which each query reads them."""
        order: NDArray[np.int64] = np.argsort(-(queries @ self.centres.T), axis=1, kind="stable")
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
        number = min(number, len(self.keys))
        lists, products = self.nearest_lists(queries, min(probes, self.num_lists))
        codes = lists.size * len(self.keys) // self.num_lists
        parts = min(num_threads(), codes // _CODES_PER_THREAD) if len(queries) == 1 else 1
        if parts <= 1:
            return self._scanned(queries, number, lists, products, selector)[1]

        def scan(part: int) -> tuple[Array, Rows]:
            dealt = lists[:, part::parts], products[:, part::parts]
            return self._scanned(queries, number, *dealt, selector)

        # faiss reads all lists of a query in one thread, and its own threads wait for each other by spinning.
        found = in_threads(scan, range(parts))
        scores, places = (np.concatenate(arrays, axis=1)[0] for arrays in zip(*found, strict=True))
        best = np.argsort(-scores, kind="stable")[:number]
        return places[best][np.newaxis]

    def nearest_lists(self, queries: Array, number: int) -> tuple[Rows, Array]:
        """The `number` lists `[Q, number]` whose centres are nearest, and the products with these."""
        products = queries @ self.centres.T
        if number == self.num_lists:
            return np.broadcast_to(np.arange(number), products.shape), products
        lists = np.argpartition(-products, number - 1, axis=1)[:, :number]
        return lists, np.take_along_axis(products, lists, axis=1)

    def _scanned(
        self, queries: Array, number: int, lists: Rows, products: Array, selector: Any
    ) -> tuple[Array, Rows]:
        """Scores by the codes and places `[Q, number]` of the best in some lists `[Q, n]`, as `candidates`."""
        faiss = load_faiss()
        options = faiss.SearchParametersIVF(nprobe=lists.shape[1])
        if selector is not None:
            options.sel = selector
        asked = [np.ascontiguousarray(array) for array in (queries, lists, products)]
        scores, places = np.empty((len(queries), number), np.float32), np.empty((len(queries), number), np.int64)
        given, of_lists, by_centre, found, placed = (faiss.swig_ptr(one) for one in (*asked, scores, places))
        # The method of its own name takes no parameters in Python.
        self.index.search_preassigned_c(
            len(queries), given, number, of_lists, by_centre, found, placed, False, options
        )
        scores[places < 0] = -np.inf
        return scores, places


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
