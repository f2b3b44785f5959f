"""What an index of this machine knows beyond its entries, which no copy has."""

from __future__ import annotations

from protoclip.search.index import Index
from protoclip.search.store import Store


def left_behind(source: Store) -> tuple[str, ...]:
    """What a copy of `source` lacks, in words; empty where it has everything.

    Raises:
        IndexFileError: `source` is damaged, or closed.
    """
    if not isinstance(source, Index):
        return ()
    mapped, left_out = source.stats().mapped, len(source.skipped)
    told = {
        f"which {mapped} of its vectors an adapter mapped, and what was measured of it": mapped,
        "where its pictures are, which `index migrate` and the search page read": (
            source.pictures != () or source.knows_sources
        ),
        f"the list of {left_out} items that its build left out": left_out,
        "a migration that isn't finished": source.migrating is not None,
    }
    return tuple(text for text, there in told.items() if there)
