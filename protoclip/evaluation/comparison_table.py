"""A comparison as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

from rich.table import Table

from protoclip.reports.tables import NAME_WIDTH, narrow_table

from .comparing import Comparison, Difference
from .table import percent


def comparison_tables(comparison: Comparison) -> Iterator[Table]:
    """For each arm but the first a table: a row a figure, both percentages, the difference with its interval."""
    first, *others = comparison.arms
    several = len(first.sources) > 1
    over = f"{len(first.sources)} seeds" if several else f"{comparison.num_groups:,} things"
    for arm in others:
        table = narrow_table(
            ["%", *("\n".join(wrap(name, NAME_WIDTH)) for name in (first.name, arm.name)), "difference", ""],
            title=f"{comparison.data}: {comparison.num_images:,} pictures, {comparison.num_texts:,} texts",
            caption=f"intervals over {over}, corrected for {comparison.num_comparisons} differences",
            texts=("",),
        )
        for name, found in arm.differences.items():
            means = (percent(one.intervals[name].mean) for one in (first, arm))
            table.add_row(name, *means, *_difference(found))
        yield table


def _difference(found: Difference) -> tuple[str, str]:
    low, high = found.interval
    return f"{_signed(found.mean)} [{_signed(low)}, {_signed(high)}]", found.verdict.value


def _signed(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:+.1f}"
