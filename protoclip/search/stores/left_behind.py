"""What an index of this machine knows beyond its entries, and a copy elsewhere has no place for."""

from __future__ import annotations

from pathlib import Path

from protoclip.search.index import Index
from protoclip.search.store import Store

from .addresses import is_store_address


def left_behind(source: Store, target: str | Path | Store) -> tuple[str, ...]:
    """What a copy of `source` to `target` will lack, in words; empty where it has everything.

    A copy on this machine lacks a migration that isn't finished alone.

    Raises:
        IndexFileError: `source` is damaged, or closed.
    """
    if not isinstance(source, Index):
        return ()
    is_elsewhere = is_store_address(target) if isinstance(target, str | Path) else not isinstance(target, Index)
    mapped, left_out = source.stats().mapped, len(source.skipped)
    told = {
        f"which {mapped} of its vectors an adapter mapped, and what was measured of it": is_elsewhere and mapped,
        "where its pictures are, which `index migrate` and the search page read": (
            is_elsewhere and (source.pictures != () or source.knows_sources)
        ),
        f"the list of {left_out} items that its build left out": is_elsewhere and left_out,
        "its calibration, which `min_relevance` needs": is_elsewhere and source.relevance is not None,
        "a migration that isn't finished": source.migrating is not None,
    }
    return tuple(text for text, there in told.items() if there)
