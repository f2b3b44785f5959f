"""What the stores of all engines share: checks before a call, groups and pages around a search.

`Q` queries, `n` entries, `D` embedding.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike

from protoclip.client.results import Embeddings, Hit
from protoclip.client.transport import Matrix, Vector
from protoclip.client.wanted import IndexOptions, Wanted
from protoclip.contract.errors import ConfigError
from protoclip.search.conditions import Condition, Where, parse
from protoclip.search.entries import Entry, Label, id_list
from protoclip.search.grouping import best_of_groups
from protoclip.search.of_one_model import OfOneModel
from protoclip.search.searching import check_wanted
from protoclip.search.store import StoreTraits
from protoclip.search.vectors import Array

from .engine_facts import EngineStats, Look, StoreFacts


class EngineStore(OfOneModel[str]):
    """A store in an engine of others; made by `create_index` and `open_index`.

    Attributes: as of `Index`; `path` is its address.
        traits: what it promises.
    """

    _to_another_model = "copy an index of that model to an address of its own"

    def __init__(self, path: str, facts: StoreFacts) -> None:
        """Use `create_index` or `open_index`."""
        self.path = path
        self.model, self.fingerprint, self.dim = facts.model, facts.fingerprint, facts.dim
        self.artifact = facts.artifact
        self.exact = facts.exact

    @property
    @abstractmethod
    def traits(self) -> StoreTraits:
        """What it promises."""

    def add(
        self,
        vectors: ArrayLike | Embeddings,
        ids: Sequence[str],
        metadata: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """As `Index.add`.

        Raises:
            ConfigError: as `Index.add`, or an id or metadata that the engine can't hold.
            IndexFileError: another model's vectors, or the index isn't there any more.
            IndexBusyError: somebody else has held these entries for 5 seconds.
            StoreUnavailable: the engine can't be reached; whether it has the entries is unknown then.
        """
        self._insert(*self._checked(vectors, ids, metadata), replace=False)

    def upsert(
        self,
        vectors: ArrayLike | Embeddings,
        ids: Sequence[str],
        metadata: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """As `add`, in place of the entries that have these ids."""
        self._insert(*self._checked(vectors, ids, metadata), replace=True)

    def remove(self, ids: str | Iterable[str]) -> int:
        """Removes the entries with these ids, and says how many there were; errors as `add`."""
        return self._delete(list(dict.fromkeys(id_list(ids))))

    def settle(self) -> None:
        """Called after many entries have come: builds what is sooner built of all of them, unless it is exact.

        Errors as `add`.
        """

    def get(self, name: str) -> Entry | None:
        """The entry with this id; None if there is none. Errors as `get_many`."""
        return self.get_many([name])[0]

    @abstractmethod
    def get_many(self, ids: Sequence[str]) -> list[Entry | None]:
        """The entry of each of these ids; None where there is none.

        Raises:
            IndexFileError: the index isn't there any more, or closed.
            StoreUnavailable: the engine can't be reached.
        """

    @abstractmethod
    def stats(self) -> EngineStats:
        """What it holds, and how many bytes it takes; errors as `get_many`."""

    @property
    @abstractmethod
    def change(self) -> str:
        """Another text after every call that wrote; where the engine doesn't tell, after a minute, too.

        For what is computed of all entries and kept. Errors as `get_many`.
        """

    def sample(self, most: int) -> list[Entry]:
        """At most `most` entries, spread over all: all, where they are fewer.

        Raises:
            ConfigError: `most` is below 1. And as `get_many`.
        """
        if most < 1:
            raise ConfigError(f"most={most} must be at least 1")
        return self._sample(most)

    def count(self, where: Where | None = None) -> int:
        """The number of entries; with `where`, of those that fit (as in `search`)."""
        return self._count(parse(where))

    def iterate(self, where: Where | None = None) -> Iterator[Entry]:
        """All entries, or those that fit; in which order, and of one moment or not: see `traits`."""
        yield from self._iterate(parse(where))

    @overload
    def search(
        self,
        vectors: Vector,
        k: int = ...,
        *,
        without: Sequence[str] = ...,
        exact: bool | None = ...,
        ef_search: int | None = ...,
        **options: Unpack[IndexOptions],
    ) -> list[Hit]: ...
    @overload
    def search(
        self,
        vectors: Matrix,
        k: int = ...,
        *,
        without: Sequence[str] = ...,
        exact: bool | None = ...,
        ef_search: int | None = ...,
        **options: Unpack[IndexOptions],
    ) -> list[list[Hit]]: ...
    @overload
    def search(
        self,
        vectors: ArrayLike | Embeddings,
        k: int = ...,
        *,
        without: Sequence[str] = ...,
        exact: bool | None = ...,
        ef_search: int | None = ...,
        **options: Unpack[IndexOptions],
    ) -> list[Hit] | list[list[Hit]]: ...
    def search(
        self,
        vectors: ArrayLike | Embeddings,
        k: int = 10,
        *,
        where: Where | None = None,
        group_by: str | None = None,
        offset: int = 0,
        without: Sequence[str] = (),
        distinct: float | None = None,
        exact: bool | None = None,
        ef_search: int | None = None,
        min_relevance: float | None = None,
        query_kind: Literal["text", "image"] | None = None,
    ) -> list[Hit] | list[list[Hit]]:
        """As `Index.search`: fewer than `k` only where there are fewer, whatever `where` leaves.

        Args:
            exact: True: compare with every vector. By default the store's own way (`exact`).
            ef_search: of an approximate search: how many candidates HNSW keeps; more find more of the best, and
                take longer.
            min_relevance: refused, as only an index of this machine is calibrated.
            query_kind: of no use without it.

        Raises:
            ConfigError: as `Index.search`, more hits than the engine gives, or an `ef_search` that it can't have.
            IndexFileError: another model's vectors, or the index isn't there any more.
            StoreUnavailable: the engine can't be reached.
        """
        array = self._of_this_model(vectors)
        rows = self._queries(array)
        wanted = Wanted(k, offset, where, group_by, distinct)
        check_wanted(wanted, without)
        if min_relevance is not None:
            raise ConfigError(
                f"{self.path}: min_relevance (--min-relevance) needs an index of this machine, which "
                "`protoclip index calibrate` calibrates: leave it out"
            )
        if ef_search is not None and (
            isinstance(ef_search, bool) or not isinstance(ef_search, int) or ef_search < 1
        ):
            raise ConfigError(f"ef_search={ef_search!r} must be a whole number of 1 or more")
        look = Look(parse(where), list(without), self.exact if exact is None else exact, ef_search)
        found = self._found(rows, wanted, look)
        pages = [hits[offset:] for hits in found]
        return pages[0] if np.ndim(array) == 1 else pages

    def _found(self, rows: Array, wanted: Wanted, look: Look) -> list[list[Hit]]:
        if wanted.is_plain:
            return self._nearest(rows, wanted.last, look)

        def nearest(row: Array) -> Callable[[int], list[Hit]]:
            return lambda number: self._nearest(row[np.newaxis], number, look)[0]

        return [best_of_groups(nearest(row), wanted, self._vectors) for row in rows]

    def _vectors(self, names: Sequence[str]) -> list[Array | None]:
        return [None if entry is None else entry.vector for entry in self.get_many(names)]

    @abstractmethod
    def _insert(self, rows: Array, labels: Sequence[Label], *, replace: bool) -> None: ...

    @abstractmethod
    def _delete(self, names: Sequence[str]) -> int: ...

    @abstractmethod
    def _count(self, condition: Condition) -> int: ...

    @abstractmethod
    def _iterate(self, condition: Condition) -> Iterator[Entry]: ...

    @abstractmethod
    def _sample(self, most: int) -> list[Entry]: ...

    @abstractmethod
    def _nearest(self, rows: Array, number: int, look: Look) -> list[list[Hit]]:
        """The best `number` of each row, best first; fewer only where there are fewer."""
