"""Which of the nearest entries match what is looked for, where the index is calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from protoclip.client import Hit
from protoclip.search import Index, Store

from .asked import Asked


@dataclass(frozen=True)
class Match:
    """What counts as a match.

    Attributes:
        least: the relevance of a hit, from which on it is one: that which keeps 90 % of the answers.
        kind: of the query.
    """

    least: float
    kind: Literal["text", "image"]

    def of(self, hits: Sequence[Hit]) -> list[Hit]:
        """Those that match."""
        return [hit for hit in hits if hit.relevance is not None and hit.relevance >= self.least]


def match_of(index: Store, asked: Asked) -> Match | None:
    """What counts as a match of such a query; None where the index isn't calibrated for its kind."""
    calibration = index.relevance if isinstance(index, Index) else None
    if calibration is None:
        return None
    kind: Literal["text", "image"] = "text" if asked.text else "image"
    measured = calibration.text if kind == "text" else calibration.image
    return None if measured is None else Match(measured.advised.value, kind)


def said_of_matches(matching: int, nearest: int, page: int) -> str:
    """How many match, in one line; "" where all do."""
    if matching == nearest:
        return ""
    if matching:
        return f"{matching} of the {nearest} nearest entries match"
    if page > 1:
        return "Nothing else matches: go back to the first page."
    return "Nothing matches: none of the nearest entries is likely to be what was looked for."
