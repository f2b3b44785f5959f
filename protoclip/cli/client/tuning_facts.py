"""What `protoclip index tune` and `info` say of a tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protoclip.search import IndexStats, Tuning


def tuning_rows(tuning: Tuning) -> dict[str, str]:
    """Names and values of a table."""
    return {
        "search": tuning.engine,
        "recall@10 of queries like the entries": str(tuning.by_entry),
        "recall@10 of others, as texts": str(tuning.by_other),
        "recall that was asked for": f"{tuning.asked:g}",
        "tuned": f"{tuning.tuned_at}, on {tuning.entries:,} entries in {tuning.seconds:.0f} s",
    }


def search_rows(stats: IndexStats) -> dict[str, str]:
    """As `tuning_rows`, of an index as it is now."""
    rows = {"search": "exact"} if stats.tuning is None else {**tuning_rows(stats.tuning), "search": stats.engine}
    if stats.later:
        rows["added since"] = f"{stats.later:,}, with which every search compares"
    if stats.tuning_is_due:
        rows["due"] = "protoclip index tune"
    return rows
