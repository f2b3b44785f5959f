"""Fields that a search names and no entry has: a misspelt one gives no hit, or no group, without an error."""

from __future__ import annotations

from collections.abc import Sequence

from protoclip.client.results import Hit

from .conditions import Where, comparisons, parse
from .store import Store


def unknown_fields(store: Store, hits: Sequence[Hit], where: Where | None, group_by: str | None) -> list[str]:
    """The names of those that may be why there is no hit, or no group, in order; counts only where it may.

    Raises:
        ConfigError: a wrong condition.
        IndexFileError: as `Store.count`.
    """
    doubted = set() if hits else {compared.name for compared in comparisons(parse(where))}
    if group_by is not None and not any(group_by in hit.metadata for hit in hits):
        doubted.add(group_by)
    return [name for name in sorted(doubted) if not store.count({name: {"exists": True}})]
