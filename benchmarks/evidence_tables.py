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
    """`−0.3 to +0.4`; an end that one decimal would show as 0 has up to three: on which side of 0 it lies is the
    verdict.
    """
    return f"{_end(low)} to {_end(high)}"


def _end(value: float) -> str:
    if round(value, 1) != 0 or round(value, 3) == 0:
        return signed(value)
    return f"{value:+.3f}".rstrip("0").replace("-", "−")


def signed(value: float) -> str:
    """One decimal with its sign, and no −0.0."""
    return f"{round(value, 1) + 0.0:+.1f}".replace("-", "−")
