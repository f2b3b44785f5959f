"""Making an accelerator of an index, and tuning searches by it. `N` entries, `Q` queries, `D` embedding."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from protoclip.contract.progress import Progress
from protoclip.search.nearest import nearest
from protoclip.search.vectors import Array, Keys
from protoclip.search.view import View

from .accelerator import SAMPLES_PER_LIST, Accelerator, new_index, num_lists, sums_of
from .choosing import Searches, choose
from .conditioned import Conditioned, codes_per_vector
from .samples import NUMBERS, Queries
from .search import ApproximateSearch
from .tuned import Effort, TunedQueries, Tuning

FEWEST = 256
_BLOCK = 32768
_ENTRY_QUERIES = 1000
_MOST_QUERIES = 2000
_KEPT_QUERIES = 1000
_NOT_MEASURED = "no queries were given to measure on"
_OF_ENTRIES = 0.001


@dataclass(frozen=True)
class Made:
    """What tuning gives: None for the accelerator where all searches are exact.

    Attributes:
        queries: `[Q, D]`, some of those that were given, for the next tuning.
    """

    accelerator: Accelerator | None
    tuning: Tuning
    queries: Array


def make(view: View, given: Array, recall: float, progress: Progress) -> Made:
    """Codes all entries of a checked view, of at least 256, and tunes searches to a recall@10 and @100.

    Args:
        given: `[Q, D]`, queries that aren't like the entries, such as texts; none: only entries are tuned with.
    """
    began = time.monotonic()
    rng = np.random.default_rng(0)
    count = sum(len(keys) for keys, _ in _blocks(view))
    index = new_index(_rows(view, count, SAMPLES_PER_LIST * num_lists(count), rng)[1], count)
    own, vectors = _rows(view, count, min(_ENTRY_QUERIES, count // 2), rng)
    order = rng.permutation(len(own))
    by_entry = Queries.of(vectors[order], own[order])
    by_other = Queries.of(given[rng.permutation(len(given))[:_MOST_QUERIES]])
    all_keys, sums, total = [], [], np.zeros(view.tail[1].shape[1])
    conditioned = [Conditioned.of(queries, count) for queries in (by_entry, by_other)]
    done = 0
    for keys, block in _blocks(view):
        index.add(block)
        all_keys.append(keys)
        sums.append(sums_of(block))
        total += block.sum(axis=0, dtype=np.float64)
        by_entry.look(keys, block)
        by_other.look(keys, block)
        for one in conditioned:
            one.look(keys, block)
        done += len(keys)
        progress("code", done, count)
    direction, border = _border(total / count, vectors, by_other.vectors)
    none = np.zeros((0, len(direction)), np.float32)
    made = Accelerator(np.concatenate(all_keys), np.concatenate(sums), direction, border, index, none)
    return _tuned(made, view, (by_entry, by_other), conditioned, recall, began)


def _tuned(
    made: Accelerator,
    view: View,
    kinds: tuple[Queries, Queries],
    conditioned: Sequence[Conditioned],
    recall: float,
    began: float,
) -> Made:
    tuned = [_choose(*kind, made, view, recall) for kind in zip(kinds, conditioned, strict=True)]
    is_approximate = any(one.is_approximate for one in tuned)
    tuning = Tuning(
        asked=recall,
        engine=made.engine if is_approximate else "exact",
        entries=len(made.keys),
        tuned_at=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - began, 1),
        by_entry=tuned[0],
        by_other=tuned[1],
    )
    if is_approximate:
        search = ApproximateSearch(made, tuning, view)
        ratio = codes_per_vector(made, kinds[0].vectors, search.compare)
        tuning = replace(tuning, codes_per_vector=round(ratio, 1))
    return Made(made if is_approximate else None, tuning, kinds[1].vectors[:_KEPT_QUERIES])


def _choose(
    queries: Queries, conditioned: Conditioned, made: Accelerator, view: View, recall: float
) -> TunedQueries:
    if not len(queries.vectors):
        return TunedQueries((), None, None, 0, None, _NOT_MEASURED)
    untuned = TunedQueries((), None, None, 0, None, "")
    search = ApproximateSearch(made, Tuning(recall, made.engine, len(made.keys), "", 0.0, untuned, untuned), view)

    def approximate(query: Array, k: int, effort: Effort) -> Keys:
        return search.with_effort(query, k, None, effort, lambda _: None)[0].keys

    def exact(query: Array, k: int) -> Keys:
        return nearest(view.parts(), query, k)[0].keys

    found = choose(queries, made, Searches(approximate, exact), recall)
    if not found.efforts or found.efforts[0].number != NUMBERS[0]:
        return found
    return replace(found, filtered=conditioned.chosen(made, found.efforts[0], recall))


def _border(mean: Array, entries: Array, given: Array) -> tuple[Array, float]:
    """Direction `[D]` and border between queries like the entries and others.

    Others are all that lie on the side of the given ones, or farther out than 999 of 1,000 entries do: what is
    taken for one of them by mistake costs time, and no recall.
    """
    direction = mean - given.mean(axis=0) if len(given) else mean
    norm = float(np.linalg.norm(direction))
    # Without any direction all queries are like the entries.
    direction = (direction / norm if norm > 0 else direction).astype(np.float32)
    border = float(np.quantile(entries @ direction, _OF_ENTRIES))
    if len(given):
        border = max(border, float((given @ direction).max()))
    return direction, border


def _blocks(view: View) -> Iterator[tuple[Keys, Array]]:
    """All entries that count, in the order of their keys."""
    for part in view.parts():
        for start in range(0, len(part.keys), _BLOCK):
            rows = slice(start, start + _BLOCK)
            keys, vectors = part.keys[rows], part.vectors[rows]
            if part.live is not None:
                keys, vectors = keys[part.live[rows]], vectors[part.live[rows]]
            if len(keys):
                yield np.asarray(keys, dtype=np.int64), np.ascontiguousarray(vectors, dtype=np.float32)


def _rows(view: View, count: int, number: int, rng: np.random.Generator) -> tuple[Keys, Array]:
    """Keys and vectors of some entries, drawn without replacement, in the order of their keys."""
    chosen = np.sort(rng.permutation(count)[:number])
    keys, vectors, before = [], [], 0
    for part in view.parts():
        live = np.arange(len(part.keys)) if part.live is None else np.flatnonzero(part.live)
        first, last = np.searchsorted(chosen, [before, before + len(live)])
        places = live[chosen[first:last] - before]
        keys.append(part.keys[places])
        vectors.append(part.vectors[places])
        before += len(live)
    return np.concatenate(keys), np.concatenate(vectors)
