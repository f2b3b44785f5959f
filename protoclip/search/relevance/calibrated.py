"""What an index knows of its calibration: how it was made, and how well it holds."""

from __future__ import annotations

from dataclasses import dataclass

from .reliability import Bin, CutOff


@dataclass(frozen=True)
class CalibratedQueries:
    """How relevance holds for queries of one kind, measured on groups of entries that it didn't learn from.

    Half of the queries had no answer in the index.

    Attributes:
        queries: how many there were.
        hits: nearest hits of them, up to 10 each, with answers and without.
        error: expected calibration error over all of these hits, in 10 ranges of relevance.
        error_of_best: the same over the most relevant hit of each query.
        at_half: what `min_relevance=0.5` keeps and hides.
        advised: the largest relevance that keeps 90 % of the answers, and what it hides.
        by_cosine: the same for one cut-off of the cosine, at its best: chosen on the queries it is measured on.
        bins: the reliability diagram.
    """

    queries: int
    hits: int
    error: float
    error_of_best: float
    at_half: CutOff
    advised: CutOff
    by_cosine: CutOff
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class Calibration:
    """The calibration of an index.

    Attributes:
        model: whose vectors it holds for, and its `fingerprint`.
        field: of the metadata, whose values were the queries; "" where they were given.
        group: of the metadata; entries with the same value were hidden together. `field`, where none was given.
        entries: of the index at the time.
        calibrated_at: date and time, UTC.
        text: of queries that are texts.
        image: of queries that are entries, or pictures like them; None where too few have another entry as answer.
    """

    model: str
    fingerprint: str
    field: str
    group: str
    entries: int
    calibrated_at: str
    text: CalibratedQueries
    image: CalibratedQueries | None

    def is_due(self, entries: int) -> bool:
        """Whether the index has doubled since, or lost half: then it isn't known what probabilities are worth."""
        return not self.entries <= 2 * entries <= 4 * self.entries
