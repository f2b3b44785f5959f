"""Sections of a run: episodes whose turns go through equally many pairs. `B` pairs in a batch.

A run has one section, and one more each time that it is resumed with more rows. Episodes are equally long in all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Section:
    """The episodes from `first_episode` on, whose turns are the first `turn_length` pairs of the data.

    With weights, which a run of one section may have, a turn is as long as these say.
    """

    first_episode: int
    turn_length: int


def with_more_pairs(sections: Sequence[Section], first_episode: int, num_pairs: int) -> tuple[Section, ...]:
    """The sections of a run that goes on with more pairs; those that would begin later are no longer reached."""
    return (*(own for own in sections if own.first_episode < first_episode), Section(first_episode, num_pairs))


def section_number(sections: Sequence[Section], episode: int) -> int:
    """The place of the section that an episode is in."""
    return max(number for number, section in enumerate(sections) if section.first_episode <= episode)


def passes_of(sections: Sequence[Section], step: int, steps_per_episode: int, batch_size: int) -> float:
    """How many turns `step` steps of B pairs are, each as long as the step's section says."""
    return sum(
        (min(step, end) - first) * batch_size / length
        for first, end, length in _spans(sections, steps_per_episode)
        if first < step
    )


def steps_of(sections: Sequence[Section], passes: float, steps_per_episode: int, batch_size: int) -> int:
    """The fewest steps that are so many passes or more, at least one."""
    found, left = 0.0, passes
    for first, end, length in _spans(sections, steps_per_episode):
        found = first + math.ceil(left * length / batch_size)
        if found <= end:
            break
        left -= (end - first) * batch_size / length
    return max(1, int(found))


def _spans(sections: Sequence[Section], steps_per_episode: int) -> Iterator[tuple[float, float, int]]:
    """The first step of each section, the one after its last, and the length of its turns."""
    firsts = [section.first_episode * steps_per_episode for section in sections]
    for (first, end), section in zip(pairwise([*firsts, math.inf]), sections, strict=True):
        yield first, end, section.turn_length
