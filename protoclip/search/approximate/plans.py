"""How hard each query looks where a condition leaves a part of the entries.

Under a condition that keeps entries at random, the neighbours that are left lie farther away, and tuning has
measured how far, by the share that is kept. A query around which about that share is kept is searched so; one
around which there are fewer, since what it asks for is mostly left out, reads lists until they hold as many
entries that count as without a condition, and then looks twice as far until that finds nothing else: of how far
away its neighbours are nothing is known. `Q` queries, `D` embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protoclip.search.vectors import Array, Keys

from .accelerator import Accelerator
from .tuned import Effort, FilteredEffort

# Of the share of all entries, around a query: below, it is one whose neighbours are left out; above, kept.
_LEFT_OUT, _KEPT = 0.8, 1.25
# As after a few were removed.
_ALMOST_ALL = 0.9
# Fewer entries around a query say little of the share.
_FEWEST = 50


@dataclass(frozen=True)
class Selected:
    """Entries of the accelerator that count.

    Attributes:
        allowed: keys that were asked for; None: all that aren't removed.
        number: of those that count.
        by_list: how many of them are in each list; None: all count.
        selector: for faiss; None: all count.
    """

    allowed: Keys | None
    number: int
    by_list: NDArray[np.int64] | None = field(repr=False)
    selector: Any = field(repr=False)


@dataclass(frozen=True)
class Plan:
    """The effort of some queries, by their rows; `is_sure`: it was measured for such ones."""

    rows: NDArray[np.int64]
    effort: Effort
    is_sure: bool = True


def plans(
    queries: Array,
    effort: Effort,
    filtered: Sequence[FilteredEffort],
    accelerator: Accelerator,
    selected: Selected,
) -> Iterator[Plan]:
    """The plans of `queries` `[Q, D]`, each of which is in one, by what was tuned without a condition and with."""
    every = np.arange(len(queries))
    if selected.by_list is None:
        yield Plan(every, effort)
        return
    usual = under_condition(effort, filtered, selected.number / len(accelerator.keys))
    rows = every[:0]
    if usual is not None:
        least, most = _shares_around(queries, effort.probes, accelerator, selected.by_list)
        rows = np.flatnonzero(least >= _LEFT_OUT)
        if (most[rows] > _KEPT).any():
            # The neighbours are there, as without a condition.
            usual = replace(usual, candidates=max(usual.candidates, effort.candidates))
        if len(rows):
            yield Plan(rows, usual)
    others = np.setdiff1d(every, rows)
    if len(others):
        probes = _probes(queries[others], effort, accelerator, selected.by_list)
        yield Plan(others, replace(effort, probes=probes), is_sure=False)


def under_condition(effort: Effort, filtered: Sequence[FilteredEffort], share: float) -> Effort | None:
    """The effort for a share of the entries, at random: no less than for the measured ones beside it.

    None: for so small a share it was not measured.
    """
    if filtered and share >= _ALMOST_ALL:
        return replace(effort, probes=int(np.ceil(effort.probes / share)))
    below = [one for one in filtered if one.share <= share]
    if not below:
        return None
    least = max(below, key=lambda one: one.share)
    above = [(one.share, one.candidates) for one in filtered if one.share > share]
    candidates = min(above)[1] if above else effort.candidates
    return Effort(effort.number, max(effort.probes, least.probes), max(least.candidates, candidates))


def _shares_around(
    queries: Array, probes: int, accelerator: Accelerator, by_list: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The share that counts in the nearest lists, and in the nearest quarter of them, by that in all.

    Gives the lesser and the greater of these, `[Q]`; 0 stands for lists that hold too few to tell.
    """
    lists, products = accelerator.nearest_lists(queries, min(probes, accelerator.num_lists))
    lists = np.take_along_axis(lists, np.argsort(-products, axis=1), axis=1)
    share = int(by_list.sum()) / len(accelerator.keys)
    shares = []
    for number in (lists.shape[1], -(-lists.shape[1] // 4)):
        usual = accelerator.sizes[lists[:, :number]].sum(axis=1) * share
        found = by_list[lists[:, :number]].sum(axis=1) / np.maximum(usual, 1)
        shares.append(np.where(usual < _FEWEST, 0.0, found))
    return np.minimum(*shares), np.maximum(*shares)


def _probes(queries: Array, effort: Effort, accelerator: Accelerator, by_list: NDArray[np.int64]) -> int:
    """How many lists are read: as many entries that count are in them as there are without a condition."""
    lists = accelerator.num_lists
    wanted = effort.probes * len(accelerator.keys) / lists
    held = np.cumsum(by_list[accelerator.list_order(queries)], axis=1)
    needed = np.count_nonzero(held < wanted, axis=1) + 1
    return min(lists, max(effort.probes, int(needed.max(initial=0))))
