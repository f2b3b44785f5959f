"""Which entries a search wants, beside what it looks for: the one list of these that every search is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict


class SearchOptions(TypedDict, total=False):
    """What `search` takes beside a query and `k`, by any client or index; see `Index.search`."""

    offset: int
    where: Mapping[str, Any] | None
    group_by: str | None
    distinct: float | None
    min_relevance: float | None


class IndexOptions(SearchOptions, total=False):
    """What an index takes beside these of a query that was embedded before."""

    query_kind: Literal["text", "image"] | None


@dataclass(frozen=True)
class Wanted:
    """What one search was given of these; see `Index.search`."""

    k: int = 10
    offset: int = 0
    where: Mapping[str, Any] | None = None
    group_by: str | None = None
    distinct: float | None = None
    min_relevance: float | None = None

    @property
    def options(self) -> SearchOptions:
        """All but `k`, to hand them on; `min_relevance` where it is given, as not every index knows it."""
        options = SearchOptions(
            offset=self.offset, where=self.where, group_by=self.group_by, distinct=self.distinct
        )
        if self.min_relevance is not None:
            options["min_relevance"] = self.min_relevance
        return options

    @property
    def last(self) -> int:
        """How many hits are looked for, those that are passed over among them."""
        return int(self.offset + self.k)

    @property
    def is_plain(self) -> bool:
        """Whether every hit is shown."""
        return self.group_by is None and self.distinct is None
