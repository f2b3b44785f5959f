"""An index in Milvus, or in a file of Milvus Lite: a collection for each index, whose description says the model.

`Q` queries, `n` entries, `D` embedding.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from protoclip.client.results import Hit
from protoclip.contract.errors import ConfigError, IndexFileError
from protoclip.search.conditions import ALL, Condition
from protoclip.search.entries import Entry, Label, id_bytes, is_twice
from protoclip.search.nearest import Part, nearest
from protoclip.search.store import StoreTraits
from protoclip.search.vectors import Array

from .addresses import MilvusAddress
from .engine import EngineStore
from .engine_facts import EngineStats, Look, StoreFacts, hit
from .milvus_collection import MAX_HITS, Collection
from .milvus_filters import expression_of, listed
from .milvus_rows import digest_of, entry_of, hit_of, parts_of, row_of

_EF_SEARCH, _MAX_EF_SEARCH = 200, 32_768
_WRITTEN_BYTES = 8 << 20
_ITERATED = 500
_HITS_AT_ONCE = 20_000
_CHANGE_S = 60
_ENTRY = ["name", "metadata", "vector"]
# By address, of the writers of this process: of two that add an id at once one is refused here.
_WRITERS: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


class MilvusStore(EngineStore):
    """An index in Milvus; made by `create_index` and `open_index`.

    Milvus has no transactions: of a call that was interrupted some entries may be written, and `upsert` again
    mends it. Reads see all that was written before them (consistency level Strong). Where a condition leaves HNSW
    fewer hits than were asked for, all entries that fit are fetched and compared here.
    """

    def __init__(self, address: MilvusAddress, facts: StoreFacts, collection: Collection) -> None:
        """Use `create_index` or `open_index`."""
        super().__init__(address.shown, facts)
        self._collection = collection

    @classmethod
    def create(cls, address: MilvusAddress, facts: StoreFacts, *, replace: bool) -> MilvusStore:
        """Makes an empty index; errors as `create_index`."""
        collection = Collection(address)
        try:
            collection.create(facts, replace=replace)
        except BaseException:
            collection.close()
            raise
        return cls(address, facts, collection)

    @classmethod
    def open(cls, address: MilvusAddress) -> MilvusStore:
        """Opens one; errors as `open_index`."""
        collection = Collection(address)
        try:
            facts = collection.facts()
            collection.load()
        except BaseException:
            collection.close()
            raise
        return cls(address, facts, collection)

    @property
    def traits(self) -> StoreTraits:
        """What it promises."""
        return StoreTraits(
            transactions=False,
            unique_ids=False,
            sees_writes=True,
            keeps_order=False,
            snapshots=False,
            search="exact" if self.exact else "approximate",
            exact_on_demand=self.exact,
        )

    def close(self) -> None:
        """Ends its connection; every other call fails then. May be called twice."""
        self._collection.close()

    def settle(self) -> None:
        """Has what came last sealed and indexed; errors as `add`."""
        self._collection.flush()

    def stats(self) -> EngineStats:
        """What it holds; Milvus doesn't tell how many bytes that takes."""
        return EngineStats(self._count(ALL), None)

    def get_many(self, ids: Sequence[str]) -> list[Entry | None]:
        """As `EngineStore.get_many`."""
        self._check()
        found: dict[str, Entry] = {}
        for part in parts_of(list(dict.fromkeys(map(digest_of, map(id_bytes, ids)))), _ITERATED):
            for row in self._collection.query(f"digest in {listed(part)}", ["digest", *_ENTRY]):
                found[row["digest"]] = entry_of(row)
        return [found.get(digest_of(id_bytes(name))) for name in ids]

    def _insert(self, rows: Array, labels: Sequence[Label], *, replace: bool) -> None:
        self._check()
        values = [row_of(label, row) for label, row in zip(labels, rows, strict=True)]
        with _WRITERS[self.path]:
            if not replace:
                taken = self._there([value["digest"] for value in values])
                for label, value in zip(labels, values, strict=True):
                    if value["digest"] in taken:
                        raise is_twice(label.id)
            # An insert of a digest that is there would leave two entries.
            for part in parts_of(values, max(1, _WRITTEN_BYTES // (4 * self.dim))):
                self._collection.upsert(part)

    def _delete(self, names: Sequence[str]) -> int:
        self._check()
        with _WRITERS[self.path]:
            there = self._there([digest_of(id_bytes(name)) for name in names])
            for part in parts_of(sorted(there), MAX_HITS):
                self._collection.delete(part)
        return len(there)

    def _there(self, digests: Sequence[str]) -> set[str]:
        return {
            row["digest"]
            for part in parts_of(digests, 1000)
            for row in self._collection.query(f"digest in {listed(part)}", ["digest"])
        }

    def _count(self, condition: Condition) -> int:
        self._check()
        return self._collection.count("" if condition == ALL else expression_of(condition))

    def _iterate(self, condition: Condition) -> Iterator[Entry]:
        """By the digests' first digits, so that each answer is small and no entry is met twice."""
        self._check()
        expression = expression_of(condition)
        prefix_digits = 0
        while 16**prefix_digits * _ITERATED < self._collection.count(""):
            prefix_digits += 1
        for number in range(16**prefix_digits):
            yield from self._with_prefix(expression, f"{number:0{prefix_digits}x}" if prefix_digits else "")

    @property
    def change(self) -> str:
        """As `EngineStore.change`; Milvus doesn't tell, so it is another one every minute."""
        return f"{self._count(ALL)}.{int(time.monotonic() / _CHANGE_S)}"

    def _sample(self, most: int) -> list[Entry]:
        """The first ones: they come by the digests of their ids, in which there is no order."""
        return list(islice(self._iterate(ALL), most))

    def _with_prefix(self, expression: str, prefix: str) -> Iterator[Entry]:
        # "g" sorts after all digits.
        span = f'digest >= "{prefix}" and digest < "{prefix}g"'
        rows = self._collection.query(f"({span}) and ({expression})", _ENTRY)
        if len(rows) < MAX_HITS:
            yield from map(entry_of, rows)
            return
        for digit in "0123456789abcdef":
            yield from self._with_prefix(expression, prefix + digit)

    def _nearest(self, rows: Array, number: int, look: Look) -> list[list[Hit]]:
        if look.exact and not self.exact:
            raise ConfigError(
                f"{self.path}: is approximate, and Milvus can't compare with every vector of it: make an index "
                "with exact=True, or raise ef_search"
            )
        if look.ef_search is not None and look.ef_search > _MAX_EF_SEARCH:
            raise ConfigError(f"ef_search={look.ef_search}: Milvus takes up to {_MAX_EF_SEARCH}")
        self._check()
        expression = self._expression(look)
        if number > MAX_HITS:
            number = self._within_bounds(number)
        if not len(rows) or not number:
            return [[] for _ in rows]
        effort = max(number, _EF_SEARCH if look.ef_search is None else look.ef_search)
        parameters = {} if self.exact else {"ef": min(effort, _MAX_EF_SEARCH)}
        hits = [
            [hit_of(row) for row in one]
            # An answer to all at once may be larger than what a server sends.
            for part in parts_of(rows, max(1, _HITS_AT_ONCE // number))
            for one in self._collection.search(
                np.stack(part), expression, number, ["name", "metadata"], parameters
            )
        ]
        if min(map(len, hits)) < number and min(map(len, hits)) < min(number, self._collection.count(expression)):
            return self._compared_here(rows, number, look)
        return hits

    def _within_bounds(self, number: int) -> int:
        number = min(number, self._collection.count(""))
        if number > MAX_HITS:
            raise ConfigError(
                f"{self.path}: Milvus finds up to {MAX_HITS:,} entries for a query, and this one needs "
                f"{number:,}: ask for fewer hits, or fewer groups"
            )
        return number

    def _expression(self, look: Look) -> str:
        expression = expression_of(look.condition)
        if not look.without:
            return expression
        digests = [digest_of(id_bytes(name)) for name in look.without]
        return f"({expression}) and digest not in {listed(digests)}"

    def _compared_here(self, rows: Array, number: int, look: Look) -> list[list[Hit]]:
        without = set(look.without)
        entries = [entry for entry in self._iterate(look.condition) if entry.id not in without]
        if not entries:
            return [[] for _ in rows]
        part = Part(np.arange(len(entries)), np.stack([entry.vector for entry in entries]))
        return [
            [
                hit(entries[key].id, float(score), entries[key].metadata)
                for key, score in zip(best.keys, best.scores, strict=True)
            ]
            for best in nearest([part], rows, number)
        ]

    def _check(self) -> None:
        facts = self._collection.facts()
        if (facts.fingerprint, facts.dim) != (self.fingerprint, self.dim):
            raise IndexFileError(f"{self.path}: was made again with another model meanwhile: open it again")
