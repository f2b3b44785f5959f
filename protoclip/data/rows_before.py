"""What a resumed run keeps of the rows that it had: rows at the end of the data change nothing before them."""

from __future__ import annotations

from dataclasses import dataclass

from .sections import Section, with_more_pairs


@dataclass(frozen=True)
class RowsAtFirst:
    """The rows that a run began with: what is held out is chosen among these.

    Attributes:
        training: of the training split, those that are held out included.
        validation: of `validation.split`; None without one.
    """

    training: int
    validation: int | None


@dataclass(frozen=True)
class RowsBefore:
    """The rows that a run had when it was last started.

    Attributes:
        first: those that it began with.
        num_rows: of the training split, those that are held out included.
        left_out: those among the rows to train on whose pictures could not be read; in none of the sections.
        sections: of its plan.
        next_episode: the first one that the last checkpoint holds nothing of.
    """

    first: RowsAtFirst
    num_rows: int
    left_out: tuple[int, ...]
    sections: tuple[Section, ...]
    next_episode: int

    @property
    def num_pairs(self) -> int:
        """The pairs of its last section."""
        return self.sections[-1].turn_length


def sections_now(before: RowsBefore | None, num_pairs: int) -> tuple[Section, ...]:
    """The sections of a run with that many pairs; of fewer than before, which it can't go on with, one of all."""
    if before is None or num_pairs < before.num_pairs:
        return (Section(0, num_pairs),)
    if num_pairs == before.num_pairs:
        return before.sections
    return with_more_pairs(before.sections, before.next_episode, num_pairs)
