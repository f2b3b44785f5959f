"""What every place offers where vectors can be kept: the local `Index`, and the engines in `stores`.

`Q` queries, `n` entries, `D` embedding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, Unpack, overload

from numpy.typing import ArrayLike

from protoclip.client.results import Embeddings, Hit
from protoclip.client.transport import Matrix, Vector
from protoclip.client.wanted import IndexOptions

from .conditions import Where
from .entries import Entry

if TYPE_CHECKING:
    from protoclip.client import ServedModel


@dataclass(frozen=True)
class StoreTraits:
    """What a store promises beyond its answers, and what it does not.

    Attributes:
        transactions: each call of `add`, `upsert` and `remove` is done whole or not at all, also where the process
            is killed. Without them some of a call's entries may be there after an error, and `upsert` again mends
            it; and an entry may be seen twice while it is replaced.
        unique_ids: of two `add` of one id at once one is refused. Without it both succeed, and one of the entries
            is kept.
        sees_writes: every read, by whomever, sees what calls wrote that have returned.
        keeps_order: `iterate` gives entries in the order in which they were added, and equal scores come so too.
        snapshots: an iteration sees the state of one moment.
        search: "exact" where every vector is compared with the query, or "approximate".
        exact_on_demand: `search(exact=True)` compares with every vector.
    """

    transactions: bool
    unique_ids: bool
    sees_writes: bool
    keeps_order: bool
    snapshots: bool
    search: str
    exact_on_demand: bool


LOCAL = StoreTraits(
    transactions=True,
    unique_ids=True,
    sees_writes=True,
    keeps_order=True,
    snapshots=True,
    search="exact",
    exact_on_demand=True,
)


class StoreStats(Protocol):
    """What a store holds and takes."""

    @property
    def entries(self) -> int:
        """How many."""

    @property
    def bytes(self) -> int | None:
        """Of all that is stored; None where the engine doesn't tell."""


class Store(Protocol):
    """Entries with ids, metadata and vectors of one model; `Index` says what each call does and raises.

    Every store gives the same entries for the same conditions, and refuses what it can't: what its engine can't
    hold or compare is a ConfigError that says so. `traits_of` says what a store promises beyond that.
    """

    model: str
    fingerprint: str
    dim: int
    artifact: str | None

    @property
    def path(self) -> Path | str:
        """Its folder, or its address; nothing secret is in it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __len__(self) -> int: ...

    def add(
        self,
        vectors: ArrayLike | Embeddings,
        ids: Sequence[str],
        metadata: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Adds `vectors` `[n, D]`; ConfigError where an id is there."""

    def upsert(
        self,
        vectors: ArrayLike | Embeddings,
        ids: Sequence[str],
        metadata: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """As `add`, in place of the entries that have these ids."""

    def remove(self, ids: str | Iterable[str]) -> int:
        """Removes entries, and says how many there were."""

    def get(self, name: str) -> Entry | None:
        """The entry with this id; None if there is none."""

    def count(self, where: Where | None = None) -> int:
        """The number of entries; with `where`, of those that fit."""

    def iterate(self, where: Where | None = None) -> Iterator[Entry]:
        """All entries, or those that fit."""

    @overload
    def search(
        self,
        vectors: Vector,
        k: int = ...,
        *,
        without: Sequence[str] = ...,
        **options: Unpack[IndexOptions],
    ) -> list[Hit]: ...
    @overload
    def search(
        self,
        vectors: Matrix,
        k: int = ...,
        *,
        without: Sequence[str] = ...,
        **options: Unpack[IndexOptions],
    ) -> list[list[Hit]]: ...
    @overload
    def search(
        self,
        vectors: ArrayLike | Embeddings,
        k: int = ...,
        *,
        without: Sequence[str] = ...,
        **options: Unpack[IndexOptions],
    ) -> list[Hit] | list[list[Hit]]:
        """The `k` entries with the largest cosine, best first; fewer only where there are fewer."""

    def sample(self, most: int) -> list[Entry]:
        """At most `most` entries, spread over all: all, where they are fewer."""

    @property
    def change(self) -> str:
        """Another text after calls that wrote, for what is computed of all entries and kept."""

    def vector(self, name: str) -> Vector:
        """The vector `[D]` of an entry."""

    def check_model(self, model: ServedModel) -> None:
        """Raises IndexFileError where another model made its vectors."""

    def stats(self) -> StoreStats:
        """What it holds, and how many bytes it takes."""

    def close(self) -> None:
        """Every other call fails then."""


def traits_of(store: Store) -> StoreTraits:
    """What a store says of itself; the local index has all of them."""
    found = getattr(store, "traits", LOCAL)
    assert isinstance(found, StoreTraits)
    return found
