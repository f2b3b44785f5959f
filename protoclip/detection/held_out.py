"""Which known pictures a detector learns from, and which set its threshold. `N` pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import DataError

from .kinds import Labels

HELD_OUT = 0.2
"""Of the groups of a class, for the threshold; none of a class with one."""

Mask = NDArray[np.bool_]


class Parts(NamedTuple):
    """Masks `[N]`; a picture may be in neither.

    Attributes:
        learned: what the detector is made of.
        held_out: what its threshold is found by.
    """

    learned: Mask
    held_out: Mask


def part(labels: Labels, seed: int = 0, groups: Sequence[str] | None = None) -> Parts:
    """Holds a fifth of each class out, by `hold_out`; with `groups`, whole groups.

    Of a group that is held out, one picture by lot sets the threshold and the others are left out: pictures of one
    thing count once, and the share that the threshold promises is that of new things. A group is of the class of
    its first picture; one with the last pictures of another class is not held out.

    Args:
        labels: `[N]`, numbers of classes.
        seed: of the lots.
        groups: `[N]`, what each picture shows; "" is a group of its own. None: every picture is one.

    Raises:
        DataError: more or fewer groups than labels.
    """
    if groups is None:
        mask = hold_out(labels, seed)
        return Parts(~mask, mask)
    if len(groups) != len(labels):
        raise DataError(f"{len(groups)} groups for {len(labels)} embeddings: give one each")
    alone = [(name, -1) if name else ("", row) for row, name in enumerate(groups)]
    numbers = {group: number for number, group in enumerate(dict.fromkeys(alone))}
    group_of = np.array([numbers[group] for group in alone], dtype=np.int64)
    firsts = np.unique(group_of, return_index=True)[1]
    held_groups = hold_out(labels[firsts], seed)
    lost = np.setdiff1d(labels, labels[~held_groups[group_of]])
    held_groups[group_of[np.isin(labels, lost)]] = False
    held_out = np.zeros(len(labels), dtype=np.bool_)
    held_out[_one_of_each(group_of, seed)[held_groups]] = True
    return Parts(~held_groups[group_of], held_out)


def hold_out(labels: Labels, seed: int = 0) -> Mask:
    """A mask `[N]` over a fifth of each class, rounded to the nearest; at least one of a class stays.

    Classes with one or two pictures are rounded by lot, so that a fifth of all is held out.
    """
    random = np.random.default_rng(seed)
    mask = np.zeros(len(labels), dtype=np.bool_)
    for members in _members(labels):
        wanted = HELD_OUT * len(members)
        count = min(int(wanted) + int(random.random() < wanted - int(wanted)), len(members) - 1)
        mask[random.permutation(members)[:count]] = True
    return mask


def _members(labels: Labels) -> list[NDArray[np.int64]]:
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1) if len(labels) else []


def _one_of_each(groups: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """A row of each group, by lot."""
    mixed = np.random.default_rng(seed).permutation(len(groups))
    return mixed[np.unique(groups[mixed], return_index=True)[1]]
