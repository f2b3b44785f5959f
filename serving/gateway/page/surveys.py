"""What the page has to know of an index before anybody searches in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from protoclip.search import Index, Store

from .asked import PER_PAGE
from .columns import Column, find_columns

_SAMPLE = 2000


@dataclass(frozen=True)
class Survey:
    """Columns and first entries of an index.

    Attributes:
        total: entries in it.
        columns: those of a sample of 2,000.
        first: ids and metadata of 24 entries, evenly spaced.
        tells_pictures: whether it says where the pictures are that it was built from.
    """

    total: int
    columns: tuple[Column, ...]
    first: tuple[tuple[str, Mapping[str, Any]], ...]
    tells_pictures: bool


def survey_of(index: Store) -> Survey:
    """Reads a sample of the index."""
    columns = find_columns([entry.metadata for entry in index.sample(_SAMPLE)])
    first = tuple((entry.id, entry.metadata) for entry in index.sample(PER_PAGE))
    return Survey(index.count(), columns, first, isinstance(index, Index) and index.pictures != ())
