"""Approximate search of one snapshot: candidates by their codes, their cosines from the vectors themselves.

What was added since the accelerator was made is compared as in an exact search; what was removed is passed over.
`Q` queries, `N` entries of the accelerator, `n` keys, `D` embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from protoclip.search.nearest import Best, Part, merge, nearest, nearest_own
from protoclip.search.vectors import Array, Keys
from protoclip.search.view import View

from .accelerator import Accelerator, selector_of, sums_of
from .plans import Selected, plans
from .stored import StoredVectors
from .threads import in_threads
from .tuned import Effort, FilteredEffort, Tuning

# Checks the segments with keys behind one: damaged ones are read from the database.
Check: TypeAlias = Callable[[int], None]
_KEPT = 4
_EXACT_AT_ONCE = 16384
_WIDEST = 8192
_AT_ONCE = 8


class Unfit(Exception):
    """The accelerator isn't of these vectors."""


class ApproximateSearch:
    """May be shared between threads."""

    def __init__(self, accelerator: Accelerator, tuning: Tuning, view: View) -> None:
        self._accelerator, self._tuning, self._view = accelerator, tuning, view
        self._stored = StoredVectors(view)
        self._selected: list[Selected] = []

    def is_of(self, accelerator: Accelerator, view: View) -> bool:
        """Whether it is of these two."""
        return self._accelerator is accelerator and self._view is view

    def nearest(self, queries: Array, k: int, allowed: Keys | None, check: Check, spare: int = 0) -> list[Best]:
        """The `k + spare` nearest entries to each of `queries` `[Q, D]`; of keys in `allowed`, or all.

        `spare`: of them the caller leaves out so many.

        Raises:
            Unfit: the accelerator isn't of these vectors.
        """
        found: list[Best | None] = [None] * len(queries)
        other = self._accelerator.is_other(queries)
        for tuned, is_other in ((self._tuning.by_entry, False), (self._tuning.by_other, True)):
            rows = np.flatnonzero(other == is_other)
            if not len(rows):
                continue
            effort = tuned.effort(k)
            if effort is None:
                check(0)
                best = nearest(self._view.parts(allowed), queries[rows], k + spare)
            else:
                effort = replace(effort, candidates=effort.candidates + spare)
                is_first = effort.number == tuned.efforts[0].number
                filtered = [replace(one, candidates=one.candidates + spare) for one in tuned.filtered if is_first]
                best = self.with_effort(queries[rows], k + spare, allowed, effort, check, filtered)
            for row, one in zip(rows.tolist(), best, strict=True):
                found[row] = one
        return [one for one in found if one is not None]

    def with_effort(
        self,
        queries: Array,
        k: int,
        allowed: Keys | None,
        effort: Effort,
        check: Check,
        filtered: Sequence[FilteredEffort] = (),
    ) -> list[Best]:
        """As `nearest`, however the queries were tuned; `filtered`: for conditions."""
        last = self._accelerator.last
        check(last)
        later = nearest(self._view.parts(allowed, after=last), queries, k)
        selected = self._select(allowed)
        for plan in plans(queries, effort, filtered, self._accelerator, selected):
            asked = queries[plan.rows]
            if allowed is not None and self._is_cheaper_exact(selected, plan.effort):
                found = self._compared(asked, k, allowed, check)
            else:
                found = self._approximated(asked, k, plan.effort, selected, check)
                if not plan.is_sure:
                    found = self._widened(asked, k, plan.effort, selected, check, found)
            for row, one in zip(plan.rows.tolist(), found, strict=True):
                merge(later[row], one.keys, one.scores, k)
        return later

    def compare(self, query: Array, places: NDArray[np.int64]) -> list[Best]:
        """The nearest of some entries to `query` `[1, D]`, at the cost of an exact search among them."""
        return nearest([self._part(places, lambda _: None)], query, 10)

    def _compared(self, queries: Array, k: int, allowed: Keys, check: Check) -> list[Best]:
        """The `k` nearest of all of its entries that count."""
        places = self._places(allowed[: int(np.searchsorted(allowed, self._accelerator.last, side="right"))])
        best = [Best(np.zeros(0, np.int64), np.zeros(0)) for _ in queries]
        for start in range(0, len(places), _EXACT_AT_ONCE):
            part = self._part(places[start : start + _EXACT_AT_ONCE], check)
            for held, one in zip(best, nearest([part], queries, k), strict=True):
                merge(held, one.keys, one.scores, k)
        return best

    def _widened(
        self, queries: Array, k: int, effort: Effort, selected: Selected, check: Check, found: list[Best]
    ) -> list[Best]:
        """What is `found` by an effort, or by twice as much, as long as that finds something else."""
        rows = np.arange(len(queries))
        while len(rows) and effort.probes < self._accelerator.num_lists:
            wider = min(_WIDEST, 2 * effort.candidates)
            effort = replace(effort, probes=2 * effort.probes, candidates=max(wider, effort.candidates))
            if selected.allowed is not None and self._is_cheaper_exact(selected, effort):
                again = self._compared(queries[rows], k, selected.allowed, check)
                effort = replace(effort, probes=self._accelerator.num_lists)
            else:
                again = self._approximated(queries[rows], k, effort, selected, check)
            others = [not np.array_equal(found[row].keys, one.keys) for row, one in zip(rows, again, strict=True)]
            for row, one in zip(rows, again, strict=True):
                found[row] = one
            rows = rows[others]
        return found

    def _approximated(
        self, queries: Array, k: int, effort: Effort, selected: Selected, check: Check
    ) -> list[Best]:
        """The `k` nearest of the candidates of each query."""
        places = self._accelerator.candidates(queries, effort.candidates, effort.probes, selected.selector)
        few = np.count_nonzero(places >= 0, axis=1) < min(k, selected.number)
        if few.any() and effort.probes < self._accelerator.num_lists:
            # Lists may be of any size: fewer hits come only where there are fewer entries.
            places = self._accelerator.candidates(
                queries, effort.candidates, self._accelerator.num_lists, selected.selector
            )

        def refine(start: int) -> list[Best]:
            rows = slice(start, start + _AT_ONCE)
            return self._refined(queries[rows], places[rows], k, check)

        blocks = in_threads(refine, range(0, len(queries), _AT_ONCE))
        return [one for block in blocks for one in block]

    def _refined(self, queries: Array, places: NDArray[np.int64], k: int, check: Check) -> list[Best]:
        """The `k` nearest of the candidates of each of a few queries."""
        flat = places.ravel()
        order = np.argsort(flat)
        # Where there are fewer candidates, faiss gives -1: no entry.
        order = order[int(np.searchsorted(flat, 0, sorter=order)) :]
        part = self._part(flat[order], check)
        return nearest_own(part.keys, part.vectors, order // places.shape[1], queries, k)

    def _is_cheaper_exact(self, selected: Selected, effort: Effort) -> bool:
        codes = effort.probes / self._accelerator.num_lists * len(self._accelerator.keys)
        return (selected.number - effort.candidates) * self._tuning.codes_per_vector <= codes

    def _part(self, places: NDArray[np.int64], check: Check) -> Part:
        """The vectors of some entries of the accelerator, in order."""
        vectors, bad = self._read(places)
        if bad.any():
            # A segment is damaged: then it is read from the database.
            check(0)
            self._stored = StoredVectors(self._view)
            vectors, bad = self._read(places)
            if bad.any():
                raise Unfit
        return Part(self._accelerator.keys[places], vectors)

    def _read(self, places: NDArray[np.int64]) -> tuple[Array, NDArray[np.bool_]]:
        vectors, there = self._stored.read(self._accelerator.keys[places])
        return vectors, ~(there & (sums_of(vectors) == self._accelerator.sums[places]))

    def _select(self, allowed: Keys | None) -> Selected:
        for one in self._selected:
            if one.allowed is allowed:
                return one
        live = self._live(allowed)
        if live is None:
            made = Selected(allowed, len(self._accelerator.keys), None, None)
        else:
            lists = self._accelerator.lists[live]
            by_list = np.bincount(lists, minlength=self._accelerator.num_lists)
            made = Selected(allowed, len(lists), by_list, selector_of(live))
        self._selected = [*self._selected, made][-_KEPT:]
        return made

    def _live(self, allowed: Keys | None) -> NDArray[np.bool_] | None:
        keys, last = self._accelerator.keys, self._accelerator.last
        if allowed is not None:
            live = np.zeros(len(keys), dtype=np.bool_)
            live[self._places(allowed[: int(np.searchsorted(allowed, last, side="right"))])] = True
            return live
        dead = self._view.removed[: int(np.searchsorted(self._view.removed, last, side="right"))]
        removed = self._places(dead)
        # What was removed before tuning may still be stored, and make up for what `compact` has dropped.
        is_whole = self._stored.count(last) == len(keys) and len(removed) == len(dead)
        if is_whole and not len(removed):
            return None
        live = np.ones(len(keys), dtype=np.bool_)
        if not is_whole:
            # Removed entries that `compact` has dropped.
            live[:] = False
            live[self._places(self._stored.keys(last))] = True
        live[removed] = False
        return live

    def _places(self, keys: Keys) -> NDArray[np.int64]:
        """Of those of `keys` that it holds."""
        own = self._accelerator.keys
        if int(own[-1] - own[0]) + 1 == len(own):
            return keys[(keys >= own[0]) & (keys <= own[-1])] - own[0]
        places = np.minimum(np.searchsorted(own, keys), len(own) - 1)
        return places[own[places] == keys]
