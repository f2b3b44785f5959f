"""The map of an index: its entries in the plane in which they differ most, and the columns that colour them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from protoclip.reports.projection import principal_plane
from protoclip.search import Entry, Store

from .cards import fact_of, shortened, title_of, visible
from .clusters import Clusters
from .columns import Column, find_columns, flag_of, number_of

MAX_POINTS = 3000
NUM_COLOURS = 9
OTHERS = "others"
_LONGEST_TITLE = 60


@dataclass(frozen=True)
class Projected:
    """Entries in the plane.

    Attributes:
        entries: at most 3,000 of them, evenly spaced.
        places: `[n, 2]`.
        shares: of the variance, along each axis.
        columns: those that can colour the points.
        total: entries in the index.
    """

    entries: tuple[Entry, ...]
    places: NDArray[np.float64]
    shares: tuple[float, float]
    columns: tuple[Column, ...]
    total: int


def project_index(index: Store) -> Projected | None:
    """The map of all entries or of a sample; None where there are fewer than three, or one dimension."""
    entries = index.sample(MAX_POINTS)
    if len(entries) < 3 or index.dim < 2:
        return None
    places, shares = principal_plane(np.stack([entry.vector for entry in entries]))
    columns = find_columns([entry.metadata for entry in entries])
    colouring = tuple(column for column in columns if column.kind != "text")
    return Projected(tuple(entries), places, shares, colouring, index.count())


def points_of(projected: Projected, colour: str, clusters: Clusters | None) -> dict[str, Any]:
    """What the page's script draws, ready for JSON.

    Args:
        colour: name of a column; any other text for clusters.
        clusters: of the index; None where a column gives the colours.
    """
    column = next((one for one in projected.columns if one.name == colour), None)
    if column is None:
        # None where the index was emptied since its map was made.
        found = clusters.numbers_of(projected.entries) if clusters is not None and clusters.clusters else ()
        names = [f"cluster {number + 1}" for number in found] or [OTHERS] * len(projected.entries)
        classes = _largest(names)
    elif column.kind == "number":
        names, classes = _ranges([number_of(one.metadata.get(column.name)) for one in projected.entries])
    else:
        names = [_value(one.metadata.get(column.name), column) for one in projected.entries]
        classes = _largest(names)
    numbers = {name: number for number, name in enumerate(classes)}
    return {
        "colour": "" if column is None else visible(column.name),
        "legend": [shortened(visible(name), _LONGEST_TITLE) for name in classes],
        "others": numbers.get(OTHERS, -1),
        "points": [
            [round(float(x), 4), round(float(y), 4), numbers.get(name, numbers.get(OTHERS, 0))]
            for (x, y), name in zip(projected.places, names, strict=True)
        ],
        # As they stand in an address: an id may hold bytes that are no UTF-8.
        "ids": [quote(one.id, safe="", errors="surrogatepass") for one in projected.entries],
        "titles": [shortened(title_of(one.id, one.metadata), _LONGEST_TITLE) for one in projected.entries],
    }


def _value(value: Any, column: Column) -> str:
    if value is None:
        return OTHERS
    flag = flag_of(value) if column.kind == "flag" else None
    return fact_of(value if flag is None else flag)


def _largest(names: Sequence[str]) -> list[str]:
    """The nine most frequent names, in their order, and one for all the others."""
    counts = Counter(name for name in names if name != OTHERS)
    kept = [name for name, _ in counts.most_common(NUM_COLOURS)]
    has_others = len(counts) > len(kept) or OTHERS in names
    return [*sorted(kept, key=_natural), *([OTHERS] if has_others else [])]


def _ranges(values: Sequence[float | None]) -> tuple[list[str], list[str]]:
    """The range of each value among five of about as many entries, and the names of the ranges."""
    known = np.array([value for value in values if value is not None])
    edges = np.unique(np.quantile(known, np.linspace(0, 1, 6)))
    inner = edges[1:-1]
    written = _written(edges)
    if len(edges) == 1:
        classes = [written[0]]
    else:
        classes = [f"{low} to {high}" for low, high in pairwise(written)]
    places = [None if value is None else int(np.searchsorted(inner, value, side="right")) for value in values]
    names = [OTHERS if place is None else classes[min(place, len(classes) - 1)] for place in places]
    return names, [*classes, *([OTHERS] if OTHERS in names else [])]


def _written(edges: NDArray[np.float64]) -> list[str]:
    """Different numbers as different texts, with as few digits as that takes."""
    whole = len(f"{np.abs(edges).max():.0f}")
    for digits in range(whole if 6 < whole < 16 else 6, 18):
        written = [f"{edge:,.{digits}g}" for edge in edges]
        if len(set(written)) == len(written):
            break
    return written


def _natural(name: str) -> tuple[str, int]:
    """Clusters by their numbers."""
    head, _, tail = name.rpartition(" ")
    return (head, int(tail)) if tail.isdecimal() else (name, 0)
