"""Rows of Markdown tables, and numbers as they stand in them."""

from __future__ import annotations

from collections.abc import Sequence

from protoclip.evaluation.paired import Estimate


def row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def rule(count: int) -> str:
    return "|---" * count + "|"


def interval(found: Estimate) -> str:
    """`+1.2 ± 0.8`, or the value alone where there is one seed."""
    spread = "" if found.half_width is None else f" ± {found.half_width:.1f}"
    return f"{signed(found.mean)}{spread}"


def ends(low: float, high: float) -> str:
    """`−0.3 to +0.4`."""
    return f"{signed(low)} to {signed(high)}"


def signed(value: float) -> str:
    """One decimal with its sign, and no −0.0."""
    return f"{round(value, 1) + 0.0:+.1f}".replace("-", "−")
